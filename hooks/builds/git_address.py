"""Addresses and versions of git sources: what may be handed to git at all. Pure.

git takes a leading dash for an option and ``ext::sh -c …`` for an address, and ssh a host's leading dash for one of its
own; so nothing reaches either that does not have one of the three plain forms.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from registry.errors import Invalid
from registry.upstream.guard import BlockedAddress, parse_url

_SSH = re.compile(
    r"ssh://(?:([A-Za-z0-9_][A-Za-z0-9_.-]{0,63})@)?([A-Za-z0-9][A-Za-z0-9.-]{0,252})(?::([0-9]{1,5}))?(/[^\s\\]+)"
)
_SCP = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]{0,63})@([A-Za-z0-9][A-Za-z0-9.-]{0,252}):([^\s\\/-][^\s\\]*)")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PULL = re.compile(r"(?:pr|mr)/([0-9]{1,9})")
_NEVER_IN_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|\Z)|\.\Z|/\Z")
MAX_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class GitAddress:
    """``scheme`` is https, http, ssh or file; ``url`` is what git is given. A file has no ``host``."""

    scheme: str
    url: str
    host: str
    port: int
    path: str

    @property
    def shown(self) -> str:
        """For logs and variables; an address holds no secret."""
        return self.url


def parse_address(text: str) -> GitAddress:
    """Read the location of a git source. Raises Invalid."""
    if len(text) > MAX_CHARACTERS or not text.isprintable():
        raise Invalid(f"the location of a git source is a URL of at most {MAX_CHARACTERS} characters")
    scheme = text.partition("://")[0].lower()
    if scheme in {"http", "https"}:
        return _web(text)
    if scheme == "file":
        path = text[len("file://") :]
        if not path.startswith("/") or ".." in path.split("/"):
            raise Invalid("a file:// location holds an absolute path without '..'")
        return GitAddress("file", f"file://{path}", "", 0, path)
    ssh = _SSH.fullmatch(text)
    if ssh is not None:
        return GitAddress("ssh", text, ssh[2].lower(), int(ssh[3] or 22), ssh[4])
    scp = _SCP.fullmatch(text)
    if scp is not None and "://" not in text and "::" not in text:
        return GitAddress("ssh", f"ssh://{scp[1]}@{scp[2]}/{scp[3]}", scp[2].lower(), 22, f"/{scp[3]}")
    raise Invalid("the location of a git source starts with https://, http://, ssh:// or file://")


def _web(text: str) -> GitAddress:
    try:
        url = parse_url(text)
    except BlockedAddress as error:
        raise Invalid(f"location: {error}; a credential is set apart from it") from error
    if "?" in url.target:
        raise Invalid("the location of a git source has no query")
    return GitAddress(url.origin.scheme, str(url), url.origin.host, url.origin.port, url.target)


def address_fault(text: str) -> str:
    """What is wrong with a location; empty if nothing is."""
    try:
        parse_address(text)
    except Invalid as error:
        return str(error)
    return ""


def version_fault(text: str) -> str:
    """What is wrong with a source version (git-check-ref-format's rules); empty if nothing is."""
    name = text.partition("^{")[0] if text.endswith("}") else text
    rest = text[len(name) :]
    if rest and not _COMMIT.fullmatch(rest[2:-1]):
        return f"source version {text[:100]!r}: write REF^{{COMMIT}} with the commit in full"
    if not name or len(name) > 250 or name.startswith(("-", "/", ".")) or _NEVER_IN_REF.search(name):
        return f"source version {text[:100]!r} is not a branch, a tag or a commit"
    return ""


def references(version: str) -> tuple[tuple[str, ...], str]:
    """What to ask a server for, best first, and the commit it has to be ("": whatever it is then).

    A commit in full is asked for as such; a short one is none (a branch may have that name, and it would win).
    """
    name, _, pinned = version.partition("^{")
    commit = pinned.removesuffix("}")
    if _COMMIT.fullmatch(name):
        return (name,), name
    if not name:
        return ("HEAD",), commit
    pull = _PULL.fullmatch(name)
    if pull is not None:
        return (f"refs/pull/{pull[1]}/head", f"refs/merge-requests/{pull[1]}/head"), commit
    if name.startswith("refs/"):
        return (name,), commit
    return (f"refs/heads/{name}", f"refs/tags/{name}"), commit
