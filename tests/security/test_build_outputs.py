"""What builds leave behind, as an attacker would have it: caches that poison releases, files that are links by now,
secrets that go along. All through real sandboxes and the real store."""

from __future__ import annotations

import gzip
import io
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import select

from config import executors
from hooks.builds import archives, artifact_scan, cache_scope, launch, stored_outputs
from hooks.builds.cache_scope import TRIGGER, Scope
from hooks.builds.executor import Item, Refused, Sandbox, SandboxRequest, Selection, SourceBundle
from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from hooks.builds.secret_forms import forms
from hooks.models import Build, BuildArtifact, BuildCache
from registry.models import Blob, Token
from tests.build_bench import MISSING_SANDBOX, PATIENCE_SECONDS, eventually, host_processes, never, work_directory
from tests.build_outputs import OutputWorld, output_world

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutputWorld]:
    with output_world(tmp_path_factory.mktemp("outputs")) as made:
        yield made


# --- H7: caches across levels of trust -------------------------------------------------------------------------------

KEYED = """version: 0.2
phases: {{build: {{commands: ['cat tool/run || true', 'mkdir -p tool && echo {value} >tool/run']}}}}
cache: {{paths: ['tool/**/*'], key: 'tools-{key}', fallback-keys: ['tools-']}}
"""
SOURCES = {
    "protected": {},
    "branch": {"format": "", "version": "feature/x", "inputs": [{"identifier": "", "type": "GIT"}]},
    "pull request": {"format": "", "version": "refs/pull/7/head", "inputs": [{"identifier": "", "type": "GIT"}]},
}


def run(world: OutputWorld, project: str, trust: str, value: str, key: str = "1") -> str:
    # A package is what is unpacked for all of them: where the source is from is all that the scope looks at.
    return world.log_of(world.build(KEYED.format(value=value, key=key), project=project, source=SOURCES[trust]))


@pytest.fixture
def sources_are_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched for the sources that the rows name: only their trust counts here."""
    from hooks.builds.bundles import Inputs

    monkeypatch.setattr(Inputs, "bundle", lambda _self, _open: SourceBundle(()))


@pytest.mark.usefixtures("sources_are_packages")
@pytest.mark.parametrize("lower", [pytest.param("branch", marks=pytest.mark.long), "pull request"])
def test_H7_a_release_never_restores_what_less_trusted_builds_saved(world: OutputWorld, lower: str) -> None:
    project = lower.replace(" ", "-")
    assert "Saved the cache" in run(world, project, lower, "evil")
    assert "evil\n" in run(world, project, lower, "worse", key="2")  # its own caches it reads
    release = run(world, project, "protected", "good")  # the same key, and a fallback that would match
    assert "No cache found" in release
    assert "evil\n" not in release
    assert "worse\n" not in release


@pytest.mark.usefixtures("sources_are_packages")
def test_H7_pull_requests_read_protected_caches_and_cannot_replace_them(world: OutputWorld) -> None:
    run(world, "down", "protected", "good")
    pull_request = run(world, "down", "pull request", "evil")
    assert "Restoring cache tools-1, scope protected" in pull_request
    assert "good\n" in pull_request
    assert "is not saved: it is there already" in pull_request
    assert "Saved the cache" in run(world, "down", "pull request", "evil", key="2")
    assert "evil\n" not in run(world, "down", "protected", "good", key="3")


@pytest.mark.usefixtures("sources_are_packages")
def test_H7_control_without_scopes_the_release_runs_what_the_pull_request_left(
    world: OutputWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scope, "readable", property(lambda _self: ("protected", "branch/feature/x", "pr/7")))
    run(world, "control", "pull request", "evil")
    assert "evil\n" in run(world, "control", "protected", "good")


@pytest.mark.usefixtures("sources_are_packages")
def test_H7_a_cache_that_was_exchanged_is_not_restored(world: OutputWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    for project, value in (("victim", "good"), ("attacker", "evil")):
        run(world, project, "protected", value)

    def exchange() -> None:
        with world.db.write() as session:
            rows = {row.build_id: row for row in session.scalars(select(BuildCache))}
            last, before = (rows[build.id] for build in newest(session, "attacker", "victim"))
            before.blob_id = last.blob_id

    exchange()
    told = run(world, "victim", "protected", "good", key="9")
    assert "evil\n" not in told
    assert "No cache found" in told  # it is forgotten, too
    run(world, "victim", "protected", "good")
    exchange()
    with world.db.write() as session:  # negative control: who can write the digest as well is believed
        for row in session.scalars(select(BuildCache)):
            row.sha256 = session.get_one(Blob, row.blob_id).sha256
    assert "evil\n" in run(world, "victim", "protected", "good", key="8")


@pytest.mark.usefixtures("sources_are_packages")
def test_H7_a_release_never_restores_what_a_pull_request_left_on_the_machine(
    world: OutputWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = {"cache": {"type": "LOCAL", "modes": ["LOCAL_CUSTOM_CACHE"]}}
    monkeypatch.setattr(world, "local", executors.local_caches(world.settings))

    def built(trust: str, value: str, key: str) -> str:
        spec = KEYED.format(value=value, key=key)
        return world.log_of(world.build(spec, project="here", source=SOURCES[trust], document=local))

    assert "Saved the cache" in built("pull request", "evil", "1")
    release = built("protected", "good", "1")  # the same key, and a fallback that would match
    assert "No cache found" in release
    assert "evil\n" not in release
    with monkeypatch.context() as without:
        without.setattr(Scope, "readable", property(lambda _self: ("pr/7", "protected")))
        assert "evil\n" in built("protected", "good", "1")


def newest(session, *projects: str) -> list[Build]:
    from hooks.models import BuildProject

    query = select(Build).join(BuildProject, BuildProject.id == Build.project_id)
    with_cache = query.where(Build.id.in_(select(BuildCache.build_id)))
    return [
        session.scalars(with_cache.where(BuildProject.name == name).order_by(Build.number.desc()).limit(1)).one()
        for name in projects
    ]


@pytest.mark.long  # tests/functional/test_output_rows.py has the same without builds
@pytest.mark.usefixtures("sources_are_packages")
def test_H7_a_flood_of_pull_requests_pushes_no_trusted_cache_out(world: OutputWorld, monkeypatch) -> None:
    run(world, "flood", "protected", "good")
    with world.db.read() as session:
        (build,) = newest(session, "flood")
        size = session.scalars(select(BuildCache.size_bytes).where(BuildCache.build_id == build.id)).one()
    limits = stored_outputs.OutputLimits(project_cache_bytes=int(size * 2.5))
    monkeypatch.setattr("config.wiring.OutputLimits", lambda *_: limits)
    for key in ("2", "3"):
        assert "Saved the cache" in run(world, "flood", "pull request", f"evil{key}", key=key)
    with world.db.read() as session:
        left = set(
            session.execute(
                select(BuildCache.scope, BuildCache.key).where(BuildCache.namespace == f"project/{build.project_id}")
            )
        )
    assert left == {("protected", "tools-1"), ("pr/7", "tools-3")}


def test_H7_where_a_build_comes_from_decides_and_not_what_it_says() -> None:
    def name(version: str = "", trigger: str = "", kind: str = "GIT") -> str:
        source = {"format": "", "version": version, "inputs": [{"identifier": "", "type": kind}]}
        webhook = {TRIGGER: trigger} if trigger else {}
        return cache_scope.scope_of(source, webhook, ("main", "release/*", "tag/v*")).name

    assert name() == name("main") == name("refs/heads/main") == "protected"
    assert name(trigger="branch/release/1") == name(trigger="tag/v1") == name("refs/tags/v1") == "protected"
    assert name(trigger="branch/tag/v1") == name("tag/v1") == "branch/tag/v1"  # a branch that is called like a tag
    assert name("main", trigger="pr/7") == name("pr/7") == name("refs/pull/7/merge") == "pr/7"
    assert name("refs/heads/pr/7") == "branch/pr/7"
    assert name(trigger="tag/x") == "tag/x"
    assert name("0" * 40) == "branch/" + "0" * 40
    assert name(kind="UPLOAD") == "upload"
    assert cache_scope.scope_of({"format": "any"}).readable == ("protected",)
    assert len(name("b" * 5000)) < 255


# --- H10: files that are something else when they are read -----------------------------------------------------------

SECRET = "the token of this very build"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with work_directory() as path:
        yield path


@pytest.fixture
def make_room(place: Path) -> Iterator[Callable[[], Sandbox]]:
    rooms: list[Sandbox] = []

    def make() -> Sandbox:
        room = ProcessExecutor(ProcessSettings(place)).prepare(SandboxRequest("b", home_files={".netrc": SECRET}))
        rooms.append(room)
        assert room.fetch(SourceBundle(()), lambda _: None, never).succeeded
        room.define(room.variables)
        return room

    yield make
    for room in rooms:
        room.destroy()


def ran(room: Sandbox, script: str) -> None:
    output: list[bytes] = []
    assert room.run(Item(script), output.append, never).succeeded, output


def collected(room: Sandbox, *, before_second: Callable[[], None] = lambda: None) -> tuple[str, dict[str, bytes]]:
    """What an artifact of everything holds; ``before_second`` runs while the first file is still being read."""
    body, waited = io.BytesIO(), []

    def write(data: bytes) -> None:
        if not waited:
            waited.append(True)
            before_second()
        body.write(data)

    outcome, _ = room.collect(Selection(("**/*",)), write, never)
    if not outcome.succeeded:
        return outcome.detail, {}
    with zipfile.ZipFile(body) as archive:
        return "", {name: archive.read(name) for name in archive.namelist()}


# The first file is far more than all pipes hold; when it is open, the others are exchanged for links, and a process
# whose command line can be seen from outside says that it is done.
SWAP = """head -c 4000000 /dev/urandom >a-first; mkdir z-dir y-real; echo fine >b-victim; echo fine >z-dir/.netrc
nohup sh -c '
until ls -l /proc/*/fd 2>/dev/null | grep -q a-first; do :; done
rm b-victim; ln -s ~/.netrc b-victim; mv z-dir away; ln -s ~ z-dir; exec sleep {seconds}' >/dev/null 2>&1 &"""


def swapped(room: Sandbox, seconds: str) -> tuple[str, dict[str, bytes]]:
    ran(room, SWAP.format(seconds=seconds))
    return collected(room, before_second=lambda: eventually(lambda: host_processes(seconds), "nothing was exchanged"))


def test_H10_a_file_exchanged_for_a_link_while_it_is_collected_is_not_followed(make_room) -> None:
    detail, files = swapped(make_room(), "4242.101")
    assert files == {}
    assert "could not be read" in detail


def test_H10_control_without_the_flags_the_secret_goes_along(make_room, monkeypatch, tmp_path: Path) -> None:
    source = Path(archives.__file__).read_text(encoding="utf-8")
    careless = tmp_path / "archives.py"
    careless.write_text(source.replace("O_NOFOLLOW", "O_CLOEXEC"), encoding="utf-8")
    monkeypatch.setattr(launch, "archives", SimpleNamespace(__file__=str(careless)))
    _, files = swapped(make_room(), "4242.102")
    assert files["b-victim"].decode() == SECRET
    assert files["z-dir/.netrc"].decode() == SECRET


def test_H10_links_pipes_and_devices_are_left_out_and_endless_files_refused(make_room) -> None:
    room = make_room()
    ran(room, "echo 1 >real; ln -s ~/.netrc link; ln -s ~ home; mkfifo pipe; mkdir -p d && ln -s /etc d/etc")
    started = time.monotonic()
    assert collected(room) == ("", {"real": b"1\n"})
    ran(room, "truncate -s 64M sparse")
    assert len(collected(room)[1]["sparse"]) == 64 * 1024**2  # zeros are cheap to keep, and were read to their end
    assert time.monotonic() - started < PATIENCE_SECONDS * 4


def test_H10_too_much_is_refused_before_it_is_read(make_room, monkeypatch, tmp_path: Path) -> None:
    small = tmp_path / "archives.py"
    text = Path(archives.__file__).read_text(encoding="utf-8")
    assert "MAX_FILES = 100_000\nMAX_BYTES = 8 * 1024**3\n" in text
    small.write_text(
        text.replace("MAX_FILES = 100_000\nMAX_BYTES = 8 * 1024**3\n", "MAX_FILES = 10\nMAX_BYTES = 1000\n")
    )
    monkeypatch.setattr(launch, "archives", SimpleNamespace(__file__=str(small)))
    room = make_room()
    ran(room, "truncate -s 1001 large")
    assert "larger than 1000 bytes together" in collected(room)[0]
    ran(room, "rm large; touch 1 2 3 4 5 6 7 8 9 10 11")
    assert collected(room)[0] == "more than 10 files match"
    outcome, _ = room.save(("*",), lambda _: None, never)
    assert outcome.detail == "more than 10 files match"


def test_H10_a_cache_never_holds_the_credentials_of_its_build(make_room, monkeypatch, tmp_path: Path) -> None:
    def saved(room: Sandbox) -> bytes:
        ran(room, "echo mine >~/mine; ln -s ~/.netrc ~/soft")
        pieces: list[bytes] = []
        assert room.save(("~/**/*", "/root/.netrc"), pieces.append, never)[0].succeeded
        return b"".join(pieces)

    archive = saved(make_room())
    assert b"mine\n" in gzip.decompress(archive)
    assert SECRET.encode() not in gzip.decompress(archive)
    other = make_room()
    ran(other, "echo another >~/.netrc")
    assert other.restore(iter([archive]), lambda _: None, never).succeeded
    output: list[bytes] = []
    other.run(Item("cat ~/mine ~/.netrc; ls -a ~"), output.append, never)
    assert b"".join(output).startswith(b"mine\nanother\n")
    careless = tmp_path / "archives.py"  # negative control
    text = Path(archives.__file__).read_text(encoding="utf-8")
    careless.write_text(text.replace('for name in order["never"]', "for name in ()"), encoding="utf-8")
    monkeypatch.setattr(launch, "archives", SimpleNamespace(__file__=str(careless)))
    assert SECRET.encode() in gzip.decompress(saved(make_room()))


def test_H10_what_the_sandbox_sends_is_believed_to_be_bytes_and_no_more(
    make_room, monkeypatch, tmp_path, world
) -> None:
    liar = tmp_path / "archives.py"
    liar.write_text(
        'import sys\nsys.stdout.buffer.write(b\'PK\' * 1000)\nsys.stderr.write(\'{"files": 7, "detail": ""}\')\n'
    )
    monkeypatch.setattr(launch, "archives", SimpleNamespace(__file__=str(liar)))
    build = world.build(
        "version: 0.2\nphases: {build: {commands: ['true']}}\nartifacts: {files: '**/*'}", project="liar"
    )
    assert build.status == "FAILED"
    assert "no readable zip" in build.message
    with world.db.read() as session:
        assert session.scalars(select(BuildArtifact).where(BuildArtifact.build_id == build.id)).all() == []


# --- H6: secrets in artifacts ----------------------------------------------------------------------------------------


def zipped(*contents: bytes) -> io.BytesIO:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"{number}.txt", content)
    body.seek(0)
    return body


def test_H6_secrets_in_artifacts_are_found_in_every_form_that_logs_mask() -> None:
    secret = 'hunter2 "and" more'
    for form in sorted(forms(secret)):
        for around in (b"", b"x" * 30):
            with pytest.raises(Refused, match=r"1\.txt in the artifact holds a secret"):
                artifact_scan.scan(zipped(b"harmless", around + form + around), [secret])
    split = b"x" * (256 * 1024 - 5) + secret.encode()  # over the border of two reads
    with pytest.raises(Refused):
        artifact_scan.scan(zipped(split), [secret])
    assert artifact_scan.scan(zipped(secret[:9].encode(), secret[9:].encode()), [secret]) == set()  # two files
    assert artifact_scan.scan(zipped(b"beta"), ["beta"]) == set()  # found by chance everywhere
    assert artifact_scan.scan(zipped(b"hunter2", b""), [secret]) == set()


def test_H6_a_token_of_this_server_in_an_artifact_is_revoked_and_the_artifact_refused(
    world: OutputWorld, monkeypatch
) -> None:
    spec = "version: 0.2\nphases: {{build: {{commands: ['echo {} >config']}}}}\nartifacts: {{files: config}}"
    token = world.token("publisher", "read")
    # The log masks tokens, and ends them: here it is the artifact that has to notice.
    build = world.build(spec.format(f'{token[:20]}""{token[20:]}'), project="leaky")
    assert build.status == "FAILED"
    assert "holds an access token of this server" in build.message
    with world.db.read() as session:
        digest = world.services.accounts.digest(token)
        assert session.scalars(select(Token.revoked_at).where(Token.digest == digest)).one() is not None
    other = world.token("publisher", "read")
    monkeypatch.setattr(stored_outputs, "scan", lambda _body, _secrets: set())  # negative control
    assert world.build(spec.format(f'{other[:20]}""{other[20:]}'), project="leaky").status == "SUCCEEDED"
