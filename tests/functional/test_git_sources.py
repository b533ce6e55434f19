"""Git sources, fetched from a real git server by the real sandbox."""

from __future__ import annotations

import ipaddress
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hooks.builds.egress import Egress
from hooks.builds.executor import Executor, Refused
from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from hooks.builds.git_fetch import Fetched, GitCredential, GitFetcher, GitRules
from hooks.builds.project import SourceSettings, SourceType
from registry.upstream.guard import AddressPolicy
from tests.build_bench import MISSING_SANDBOX, never, work_directory
from tests.fakes.forge import Forge, Repository, forge, git

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)
LOOPBACK = AddressPolicy((ipaddress.ip_network("127.0.0.0/8"),))
TOKEN = "forge-token-4711-secret"


@dataclass
class Place:
    """A forge with two repositories, and fetchers."""

    forge: Forge
    work: Path
    one: Repository
    other: Repository
    commits: list[str]

    def executor(self, policy: AddressPolicy = LOOPBACK) -> Executor:
        return ProcessExecutor(
            ProcessSettings(self.work, registry_address=Egress(policy).connect, readonly_paths=(str(self.forge.root),))
        )

    def fetch(
        self,
        *,
        policy: AddressPolicy = LOOPBACK,
        rules: GitRules | None = None,
        credential: GitCredential | None = None,
        **source: object,
    ) -> Fetched:
        rules = rules or GitRules(file_roots=(str(self.forge.root),))
        wanted = replace(SourceSettings(SourceType.GIT, f"{self.forge.url}/one.git"), **source)
        return GitFetcher(self.executor(policy), rules).fetch(wanted, credential, never)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with work_directory() as work:
        root = work.parent / "repositories"
        root.mkdir()
        root.chmod(0o755)
        one, other = Repository(root, "one"), Repository(root, "other")
        other.commit({"part.txt": "the part\n"})
        commits = [one.commit({"README": "first\n"}, "first", tag="v1")]
        commits.append(one.commit({"README": "second\n", "tools/run.sh": "echo hi\n"}, "second"))
        commits.append(one.commit({"README": "feature\n"}, "feature", branch="feature/x"))
        git(one.work, "reset", "--quiet", "--hard", commits[1])
        with forge(root) as running:
            yield Place(running, work, one, other, commits)


def files(fetched: Fetched) -> dict[str, str]:
    with fetched.body, tarfile.open(fileobj=fetched.body) as tar:
        return {
            member.name.removeprefix("./"): tar.extractfile(member).read().decode(errors="replace")
            for member in tar
            if member.isfile()
        }


@pytest.mark.parametrize(
    ("version", "which", "text"),
    [
        ("", 1, "second\n"),
        ("feature/x", 2, "feature\n"),
        ("v1", 0, "first\n"),
        ("refs/heads/main", 1, "second\n"),
        ("@0", 0, "first\n"),
        ("feature/x^{@1}", 1, "second\n"),
    ],
)
def test_a_branch_a_tag_and_a_commit_are_fetched(place: Place, version: str, which: int, text: str) -> None:
    for number, commit in enumerate(place.commits):
        version = version.replace(f"@{number}", commit)
    fetched = place.fetch(version=version)
    assert fetched.commit == place.commits[which]
    assert files(fetched)["README"] == text


def test_what_is_not_there_is_told_with_gits_words(place: Place) -> None:
    with pytest.raises(Refused, match="nowhere"):
        place.fetch(version="nowhere")


def test_history_comes_as_deep_as_it_is_asked_for(place: Place) -> None:
    def shallow(fetched: Fetched) -> bool:
        return ".git/shallow" in files(fetched)

    assert shallow(place.fetch())
    assert not shallow(place.fetch(depth=0))


def test_a_file_source_needs_its_directory_to_be_allowed(place: Place) -> None:
    location = f"file://{place.one.bare}"
    assert place.fetch(location=location, version="v1").commit == place.commits[0]
    with pytest.raises(Refused, match="none of the directories"):
        place.fetch(location=location, rules=GitRules(file_roots=("/srv/elsewhere",)))
    with pytest.raises(Refused, match="no file:// sources"):
        place.fetch(location=location, rules=GitRules())


@pytest.mark.parametrize("scheme", ["http://127.0.0.1:{port}/one.git", "ssh://git@127.0.0.1:{port}/one.git"])
def test_addresses_are_looked_at_as_those_of_upstreams_are(place: Place, scheme: str) -> None:
    location = scheme.format(port=place.forge.url.rpartition(":")[2])
    before = len(place.forge.sent)
    with pytest.raises(Refused, match=r"403|loopback|not allowed|ended"):
        place.fetch(location=location, policy=AddressPolicy())
    assert len(place.forge.sent) == before


def test_a_credential_is_sent_to_its_repository_and_left_nowhere(place: Place) -> None:
    place.forge.credentials["one.git"] = ("x-access-token", TOKEN)
    try:
        with pytest.raises(Refused) as caught:
            place.fetch(credential=GitCredential("PERSONAL_ACCESS_TOKEN", "", "wrong-" + TOKEN))
        assert "wrong-" + TOKEN not in str(caught.value)
        with place.fetch(credential=GitCredential("PERSONAL_ACCESS_TOKEN", "", TOKEN)).body as body:
            archive = body.read()
    finally:
        del place.forge.credentials["one.git"]
    assert b"README" in archive
    assert TOKEN.encode() not in archive
    assert any(TOKEN in given for _, given in place.forge.sent)
    assert not any(TOKEN.encode() in path.read_bytes() for path in place.work.rglob("*") if path.is_file())


def with_submodule(place: Place, url: str, branch: str, more: str = "") -> None:
    git(place.one.work, "checkout", "--quiet", "--detach", place.commits[1])
    part = git(place.other.work, "rev-parse", "HEAD")
    text = f'[submodule "part"]\n\tpath = part\n\turl = {url}\n{more}'
    (place.one.work / ".gitmodules").write_text(text)
    git(place.one.work, "update-index", "--add", "--cacheinfo", f"160000,{part},part")
    git(place.one.work, "add", ".gitmodules")
    git(place.one.work, "commit", "--quiet", "-m", "with a part")
    git(place.one.work, "push", "--quiet", "--force", "origin", f"HEAD:refs/heads/{branch}")


def test_submodules_come_without_the_credential_of_the_repository(place: Place) -> None:
    with_submodule(place, f"{place.forge.url}/other.git", "parts")
    place.forge.credentials["one.git"] = ("x-access-token", TOKEN)
    before = len(place.forge.sent)
    try:
        fetched = place.fetch(
            version="parts", submodules=True, credential=GitCredential("PERSONAL_ACCESS_TOKEN", "", TOKEN)
        )
    finally:
        del place.forge.credentials["one.git"]
    assert files(fetched)["part/part.txt"] == "the part\n"
    given = {path.split("/")[1]: credential for path, credential in place.forge.sent[before:] if credential}
    assert list(given) == ["one.git"]


@pytest.mark.parametrize(
    ("url", "more", "why"),
    [
        ("file://{bare}", "", "transport 'file' not allowed"),
        ("{bare}", "", "transport 'file' not allowed"),
        ("ext::sh -c touch% /tmp/ran", "", "transport 'ext' not allowed"),
        ("ssh://git@127.0.0.1/other.git", "", "transport 'ssh' not allowed"),
        ("{url}/other.git", "\tupdate = !touch /tmp/ran\n", "invalid value"),
    ],
)
def test_a_submodule_names_no_file_and_no_command(place: Place, url: str, more: str, why: str) -> None:
    with_submodule(place, url.format(bare=place.other.bare, url=place.forge.url), "tricks", more)
    with pytest.raises(Refused, match=why):
        place.fetch(version="tricks", submodules=True)
