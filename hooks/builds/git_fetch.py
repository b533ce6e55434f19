"""Fetching git sources: git runs in a sandbox of its own, and reaches the outside through the guarded proxy alone.

A repository is a stranger's: nothing in it may run here (hooks, filters, helpers, transports by configuration), it gets
no other repository's credential, and what it makes of git ends in the sandbox. The credential stands in a file of that
sandbox: in no argument, no variable, not in ``.git/config``, and nowhere in the archive that goes to the build.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from hooks.builds.caching import Taking
from hooks.builds.executor import (
    REGISTRY_BASE_URL,
    REGISTRY_PORT,
    Executor,
    ExecutorError,
    Interrupt,
    Item,
    Network,
    Outcome,
    Refused,
    Sandbox,
    SandboxRequest,
    SourceBundle,
)
from hooks.builds.git_address import GitAddress, parse_address, references
from hooks.builds.keeping import FoundCache
from hooks.builds.local_caches import SourceCache
from hooks.builds.project import SourceSettings
from registry.errors import Invalid

LOG = logging.getLogger(__name__)
SCHEMES = ("https", "http", "ssh", "file")
_MESSAGE_CHARACTERS = 500
# Values come as variables only: no text of anybody's is ever part of the script.
_FETCH = """set -eu
cd "$CODEBUILD_SRC_DIR"
git init --quiet .
git config remote.origin.url "$SOURCE_URL"
git config remote.origin.fetch "+refs/heads/*:refs/remotes/origin/*"
[ -z "$SOURCE_KEPT" ] || git update-ref refs/entrepot/kept "$SOURCE_KEPT"
depth=
[ "$SOURCE_DEPTH" = 0 ] || depth="--depth=$SOURCE_DEPTH"
found=
for reference in $SOURCE_REFERENCES; do
  if git fetch --quiet --no-tags $depth origin "+$reference:refs/entrepot/source" 2>/tmp/message; then
    found=yes
    break
  fi
done
if [ -z "$found" ] && [ -n "$SOURCE_COMMIT" ]; then
  # Some servers give no commit by its name: then all there is, and the commit out of that.
  git fetch --quiet --tags origin "+refs/heads/*:refs/remotes/origin/*" 2>/tmp/message && found=yes
fi
if [ -z "$found" ]; then
  cat /tmp/message
  exit 1
fi
if [ -n "$SOURCE_COMMIT" ]; then
  git cat-file -e "$SOURCE_COMMIT^{commit}" 2>/dev/null || git fetch --quiet --unshallow --no-tags origin
  commit=$SOURCE_COMMIT
else
  commit=$(git rev-parse --verify --quiet "refs/entrepot/source^{commit}")
fi
if [ "$SOURCE_DEPTH" = 0 ]; then git fetch --quiet --tags origin; fi
git checkout --quiet --detach "$commit"
git update-ref -d refs/entrepot/source
[ -z "$SOURCE_KEPT" ] || git update-ref -d refs/entrepot/kept
"""
_OBJECTS = (".git/objects/**/*", ".git/shallow")
"""What is kept of a fetch: what its commits consist of, and nothing that git takes instructions from."""
_SUBMODULES = """set -eu
cd "$CODEBUILD_SRC_DIR"
[ ! -f .gitmodules ] || git submodule --quiet update --init --recursive --depth 1 2>&1
"""
_RESOLVE = 'cd "$CODEBUILD_SRC_DIR" && git rev-parse --verify HEAD'
_PACK = 'tar -C "$CODEBUILD_SRC_DIR" --owner=0 --group=0 --numeric-owner -cf - . 2>/dev/null'
# The files alone, in one order and with the commit's time: the same commit is the same archive, wherever it is fetched.
_PACK_FILES = """export LC_ALL=C
cd "$CODEBUILD_SRC_DIR"
made=$(git log -1 --format=%ct)
find . -name .git -prune -o -print0 | sort -z \\
  | tar --null --no-recursion -T - --owner=0 --group=0 --numeric-owner --mtime="@$made" --mode=go-w -cf - 2>/dev/null
"""
_DESCRIBE = 'cd "$CODEBUILD_SRC_DIR" && git log -1 --format="%aI%n%cI%n%B"'
_HEADS = """set -euf
git ls-remote "$SOURCE_URL" $SOURCE_ASKED >/tmp/found 2>/tmp/message || { cat /tmp/message; exit 1; }
cat /tmp/found
"""
_FILE = """set -eu
cd "$CODEBUILD_SRC_DIR"
git init --quiet .
git fetch --quiet --no-tags --depth=1 "$SOURCE_URL" "+$SOURCE_ASKED:refs/entrepot/source" 2>/tmp/message \\
  || { cat /tmp/message; exit 1; }
git rev-parse --verify "refs/entrepot/source^{commit}"
git cat-file blob "refs/entrepot/source:$SOURCE_PATH" 2>/tmp/message || { echo; cat /tmp/message; exit 1; }
"""
_MOST_FILE_BYTES = 512 * 1024
_MOST_BYTES = 64 * 1024
_MOST_HEADS_BYTES = 4 * 1024 * 1024
_CHANGES = """set -eu
cd "$CODEBUILD_SRC_DIR"
git init --quiet .
git fetch --quiet --no-tags "$SOURCE_URL" "$SOURCE_COMMIT" "$SOURCE_BEFORE" 2>/tmp/message || { cat /tmp/message; exit 1; }
git diff --name-only --no-renames -z "$SOURCE_BEFORE" "$SOURCE_COMMIT" >/tmp/changed
head -c 60000 /tmp/changed
"""


@dataclass(frozen=True, slots=True)
class GitCredential:
    """What a source is fetched with: a token or password with its user, or an SSH key with the hosts' known keys."""

    auth_type: str
    username: str = ""
    secret: str = field(default="", repr=False)
    known_hosts: str = ""


@dataclass(frozen=True, slots=True)
class GitRules:
    """What the settings allow. ``file_roots`` are directories whose repositories may be named as file:// sources."""

    schemes: tuple[str, ...] = ("https", "http", "ssh")
    file_roots: tuple[str, ...] = ()

    def check(self, address: GitAddress) -> None:
        """Raise Refused for what is not allowed."""
        if address.scheme not in self.schemes and not (address.scheme == "file" and self.file_roots):
            raise Refused(f"this server fetches no {address.scheme}:// sources")
        if address.scheme == "file":
            real = Path(address.path).resolve()
            if not any(real.is_relative_to(Path(root).resolve()) for root in self.file_roots):
                raise Refused(f"{address.path} is in none of the directories that file:// sources may come from")


class BrokenOff(Refused):
    """The build was stopped or ran out of time while its source was fetched."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The archive of a source (tar, at its beginning) and the commit it holds.

    ``author_date``, ``committer_date`` (ISO 8601) and ``message`` are told where they are asked for.
    """

    body: BinaryIO
    commit: str
    author_date: str = ""
    committer_date: str = ""
    message: str = ""


class GitFetcher:
    """Fetches git sources. ``executor`` makes sandboxes whose registry is the guarded proxy."""

    def __init__(self, executor: Executor, rules: GitRules, spool_dir: Path | None = None) -> None:
        self._executor = executor
        self._rules = rules
        self._spool_dir = spool_dir

    def fetch(
        self,
        source: SourceSettings,
        credential: GitCredential | None,
        interrupt: Interrupt,
        cache: SourceCache | None = None,
        *,
        is_described: bool = False,
        with_history: bool = True,
    ) -> Fetched:
        """Fetch ``source``; of what ``cache`` has, only what is new. The body is the caller's to close.

        ``is_described``: dates and message of the commit are told. Without ``with_history`` no ``.git`` is in the archive, and
        the same commit gives the same bytes.

        Raises Refused for what cannot be fetched so (BrokenOff when ``interrupt`` gave a reason), ExecutorError without
        a sandbox.
        """
        try:
            address = parse_address(source.location)
        except Invalid as error:
            raise Refused(str(error)) from error
        self._rules.check(address)
        wanted = _Wanted(address, source, credential, cache, is_described, with_history)
        found = cache.find(source) if cache is not None else None
        if found is not None:
            try:
                return self._fetch_in(wanted, interrupt, found)
            except BrokenOff:
                raise
            except (Refused, ExecutorError) as error:
                # Whatever it is: it must not be for what was kept.
                LOG.info("%s is fetched anew, without what was kept: %s", address.shown, error)
        return self._fetch_in(wanted, interrupt, None)

    def heads(
        self, source: SourceSettings, asked: Sequence[str], credential: GitCredential | None, interrupt: Interrupt
    ) -> Mapping[str, str]:
        """The commits of the references that match one of ``asked`` (``refs/heads/*``). Raises as ``fetch``."""
        said = self._ask(source, credential, _HEADS, {"SOURCE_ASKED": " ".join(asked)}, interrupt)
        found: dict[str, str] = {}
        for line in said.decode(errors="replace").splitlines():
            commit, _, reference = line.partition("\t")
            # A tag that is an object of its own comes twice; the second line has the commit.
            found[reference.removesuffix("^{}")] = commit
        return found

    def read_file(
        self, source: SourceSettings, path: str, credential: GitCredential | None, interrupt: Interrupt
    ) -> tuple[str, str]:
        """The commit that the reference ``source.version`` names now, and the text of a file in it. Raises as ``fetch``."""
        asked = {"SOURCE_ASKED": source.version, "SOURCE_PATH": path}
        commit, _, body = self._ask(source, credential, _FILE, asked, interrupt).partition(b"\n")
        if len(body) > _MOST_FILE_BYTES:
            raise Refused(f"{path} is larger than {_MOST_FILE_BYTES} bytes")
        try:
            return commit.decode(), body.decode()
        except UnicodeDecodeError as error:
            raise Refused(f"{path} is no text") from error

    def changed(
        self, source: SourceSettings, before: str, commit: str, credential: GitCredential | None, interrupt: Interrupt
    ) -> tuple[str, ...]:
        """Paths that differ between two commits, the first of them at least. Raises as ``fetch``."""
        said = self._ask(source, credential, _CHANGES, {"SOURCE_BEFORE": before, "SOURCE_COMMIT": commit}, interrupt)
        return tuple(path for path in said.decode(errors="replace").split("\0") if path)

    def _ask(
        self,
        source: SourceSettings,
        credential: GitCredential | None,
        script: str,
        variables: Mapping[str, str],
        interrupt: Interrupt,
    ) -> bytes:
        try:
            address = parse_address(source.location)
        except Invalid as error:
            raise Refused(str(error)) from error
        self._rules.check(address)
        request = SandboxRequest(f"git:{address.host}", Network.REGISTRY, None, _home_files(address, credential))
        sandbox = self._executor.prepare(request)
        try:
            sandbox.fetch(SourceBundle(()), _ignore, interrupt)
            sandbox.define({**sandbox.variables, **_variables(address, source), **variables})
            secret = credential.secret if credential is not None else ""
            message = f"{address.shown} could not be asked"
            return _run(sandbox, script, message, secret, interrupt, most_bytes=_MOST_HEADS_BYTES)
        finally:
            sandbox.destroy()

    def _fetch_in(self, wanted: _Wanted, interrupt: Interrupt, found: tuple[FoundCache, str] | None) -> Fetched:
        files = _home_files(wanted.address, wanted.credential)
        request = SandboxRequest(f"git:{wanted.address.host}", Network.REGISTRY, None, files)
        sandbox = self._executor.prepare(request)
        try:
            return self._fetch(sandbox, wanted, interrupt, found)
        finally:
            sandbox.destroy()

    def _fetch(
        self, sandbox: Sandbox, wanted: _Wanted, interrupt: Interrupt, found: tuple[FoundCache, str] | None
    ) -> Fetched:
        address, source, credential = wanted.address, wanted.source, wanted.credential
        sandbox.fetch(SourceBundle(()), _ignore, interrupt)
        kept = {"SOURCE_KEPT": found[1] if found is not None else ""}
        sandbox.define({**sandbox.variables, **_variables(address, source), **kept})
        if found is not None:
            _require(sandbox.restore(found[0].open(), _ignore, interrupt), "what was kept cannot be used", b"", "")
        secret = credential.secret if credential is not None else ""
        _run(sandbox, _FETCH, f"{address.shown} could not be fetched", secret, interrupt)
        if source.submodules:
            # What a repository names is the repository's word: no file of this machine, and no key of ours.
            allowed = {"GIT_ALLOW_PROTOCOL": ":".join({"https", "http"} & set(self._rules.schemes))}
            message = f"the submodules of {address.shown} could not be fetched"
            _run(sandbox, _SUBMODULES, message, secret, interrupt, allowed)
        commit = _run(sandbox, _RESOLVE, "the commit cannot be told", secret, interrupt).decode().strip()
        told = ["", "", ""]
        if wanted.is_described:
            said = _run(sandbox, _DESCRIBE, "the commit cannot be told", secret, interrupt).decode(errors="replace")
            told = [*said.split("\n", 2), "", ""][:3]
        if wanted.cache is not None:
            _keep(sandbox, wanted.cache, source, commit, interrupt)
        body = tempfile.TemporaryFile(dir=self._spool_dir)  # noqa: SIM115 - the caller's to close
        try:
            outcome = sandbox.run(
                Item(_PACK if wanted.with_history else _PACK_FILES), lambda data: _write(body, data), interrupt
            )
            _require(outcome, "the source could not be packed", b"", secret)
            body.seek(0)
        except OSError as error:
            body.close()
            raise ExecutorError(f"the source cannot be kept: {error}") from error
        except BaseException:
            body.close()
            raise
        return Fetched(body, commit, told[0], told[1], told[2].strip())


@dataclass(frozen=True, slots=True)
class _Wanted:
    address: GitAddress
    source: SourceSettings
    credential: GitCredential | None
    cache: SourceCache | None
    is_described: bool = False
    with_history: bool = True


def _keep(sandbox: Sandbox, cache: SourceCache, source: SourceSettings, commit: str, interrupt: Interrupt) -> None:
    """Keep the objects that are there now for the next fetch; not having room for them is no fault of the source."""
    try:
        incoming = cache.begin(source, commit)
        taking = Taking(incoming) if incoming is not None else None
        if incoming is None or taking is None:
            return
        outcome, files = sandbox.save(_OBJECTS, taking.write, interrupt)
        _require(outcome, "what was fetched cannot be kept", b"", "")
        if files and not taking.refusal:
            incoming.keep(files)
    except BrokenOff:
        raise
    except (Refused, ExecutorError) as error:
        LOG.info("what was fetched of %s is not kept: %s", source.location, error)


def _write(body: BinaryIO, data: bytes) -> None:
    body.write(data)


def _ignore(_data: bytes) -> None:
    """Nothing is told while nothing is fetched."""


def _run(
    sandbox: Sandbox,
    script: str,
    message: str,
    secret: str,
    interrupt: Interrupt,
    environment: Mapping[str, str] | None = None,
    most_bytes: int = _MOST_BYTES,
) -> bytes:
    said = bytearray()

    def keep(data: bytes) -> None:
        said.extend(data[: max(0, most_bytes - len(said))])

    outcome = sandbox.run(Item(script, environment=environment or {}, carries_state=False), keep, interrupt)
    _require(outcome, message, bytes(said), secret)
    return bytes(said)


def _require(outcome: Outcome, message: str, said: bytes, secret: str) -> None:
    if outcome.reason is not None:
        raise BrokenOff(f"{message}: {outcome.reason.value}")
    if not outcome.succeeded:
        raise Refused(_why(message, said, outcome, secret))


def _why(message: str, said: bytes, outcome: Outcome, secret: str) -> str:
    text = " ".join(said.decode(errors="replace").split())
    for form in {secret, quote(secret, safe="")} - {""}:
        text = text.replace(form, "***")
    return f"{message}: {text[:_MESSAGE_CHARACTERS] or outcome.detail or 'git says nothing'}"


def _variables(address: GitAddress, source: SourceSettings) -> dict[str, str]:
    asked, commit = references(source.version)
    return {
        "SOURCE_URL": address.url,
        "SOURCE_REFERENCES": " ".join(asked),
        "SOURCE_COMMIT": commit,
        "SOURCE_DEPTH": str(source.depth),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "SSH_ASKPASS": "/bin/false",
        "GIT_ALLOW_PROTOCOL": address.scheme,
        "GIT_SSH_COMMAND": "ssh -F /codebuild/home/ssh_config",
    }


def _home_files(address: GitAddress, credential: GitCredential | None) -> dict[str, str]:
    files = {".gitconfig": _CONFIGURATION}
    if address.scheme == "ssh":
        key = credential if credential is not None and credential.auth_type == "SSH_KEY" else GitCredential("SSH_KEY")
        files |= {"ssh_config": _SSH_CONFIG, "connect.py": _CONNECT, "known_hosts": key.known_hosts + "\n"}
        files["key"] = key.secret.rstrip("\n") + "\n"
    elif credential is not None and address.scheme != "file":
        user = quote(credential.username or "x-access-token", safe="")
        pair = f"{user}:{quote(credential.secret, safe='')}"
        files["credentials"] = f"{address.scheme}://{pair}@{address.url.partition('://')[2]}\n"
    return files


# The whole path counts: a submodule on the same host is another repository, and is not the credential's.
_CONFIGURATION = f"""[core]
    hooksPath = /dev/null
    fsmonitor = false
    sshCommand = ssh -F /codebuild/home/ssh_config
[protocol]
    allow = never
[protocol "https"]
    allow = always
[protocol "http"]
    allow = always
[protocol "ssh"]
    allow = always
[protocol "file"]
    allow = user
[http]
    proxy = {REGISTRY_BASE_URL}
    followRedirects = false
    lowSpeedLimit = 1000
    lowSpeedTime = 60
[credential]
    helper = store --file=/codebuild/home/credentials
    useHttpPath = true
[submodule]
    recurse = false
[safe]
    directory = *
[gc]
    auto = 0
[maintenance]
    auto = false
[init]
    defaultBranch = main
[advice]
    detachedHead = false
"""
_SSH_CONFIG = """Host *
    IdentityFile /codebuild/home/key
    IdentitiesOnly yes
    UserKnownHostsFile /codebuild/home/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
    ForwardAgent no
    PermitLocalCommand no
    ProxyCommand /usr/bin/python3 -I -S /codebuild/home/connect.py %h %p
"""
_CONNECT = f"""import os, select, socket, sys
link = socket.create_connection(("127.0.0.1", {REGISTRY_PORT}))
link.sendall(f"CONNECT {{sys.argv[1]}}:{{sys.argv[2]}} HTTP/1.1\\r\\n\\r\\n".encode())
head = b""
while not head.endswith(b"\\r\\n\\r\\n"):
    piece = link.recv(1)
    if not piece:
        sys.exit("the connection ended")
    head += piece
if b" 200 " not in head.split(b"\\r\\n")[0]:
    sys.exit(link.recv(4096).decode(errors="replace"))
sides = [0, link]
while True:
    ready, _, _ = select.select(sides, [], [])
    if link in ready:
        data = link.recv(65536)
        if not data:
            break
        while data:
            data = data[os.write(1, data):]
    if 0 in ready:
        data = os.read(0, 65536)
        if data:
            link.sendall(data)
        else:
            sides.remove(0)
            link.shutdown(socket.SHUT_WR)
"""
