"""Client configuration for curl and wget: both read ``.netrc``, so that the token stands in no command line and no URL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from registry.client_files import set_netrc
from registry.errors import Invalid
from registry.format import LoginTarget, Tool


def _host(target: LoginTarget) -> str:
    host = urlsplit(target.repository_url).hostname
    if not host:
        raise Invalid(f"the repository's URL has no host: {target.repository_url!r}")
    return host


def _files(home: Path, env: Mapping[str, str]) -> list[Path]:
    return [Path(env["NETRC"]) if env.get("NETRC") else home / ".netrc"]


def _plan(existing: Mapping[Path, str | None], target: LoginTarget) -> Mapping[Path, str]:
    (netrc,) = existing
    return {netrc: set_netrc(existing[netrc], _host(target), target.username, target.token)}


def _notes(target: LoginTarget) -> list[str]:
    return [
        f"fetch with: curl --netrc -fO {target.repository_url}NAME/VERSION/FILE",
        f"publish with: curl --netrc -fT FILE {target.repository_url}NAME/VERSION/",
        f"the token is in .netrc, for every URL of {_host(target)}",
    ]


TOOLS: Mapping[str, Tool] = MappingProxyType({"curl": Tool("curl", _files, _plan, _notes)})
