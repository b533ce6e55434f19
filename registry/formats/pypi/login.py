"""Client configuration for pip, uv and twine.

The token goes to ``.netrc`` for pip and uv: it then stands in no URL, and with that in no log, no ``pip config list``
and no lock file. Readers of ``.netrc`` know hosts, not paths or ports: one token serves all repositories of a server.
twine does not read it for uploads to a named repository and keeps the token in its own ``.pypirc``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from registry.client_files import read_ini, read_toml, set_ini, set_netrc, set_toml_index
from registry.errors import Invalid
from registry.format import LoginTarget, Tool

INDEX_NAME = "entrepot"


def _netrc(home: Path, env: Mapping[str, str]) -> Path:
    return Path(env["NETRC"]) if env.get("NETRC") else home / ".netrc"


def _config_folder(home: Path, env: Mapping[str, str]) -> Path:
    if sys.platform == "win32":
        return Path(env.get("APPDATA") or home / "AppData" / "Roaming")
    return Path(env.get("XDG_CONFIG_HOME") or home / ".config")


def _host(target: LoginTarget) -> str:
    host = urlsplit(target.repository_url).hostname
    if not host or not target.repository_url.endswith("/"):
        raise Invalid(f"the repository's URL must have a host and end in a slash: {target.repository_url!r}")
    return host


def _pip_files(home: Path, env: Mapping[str, str]) -> list[Path]:
    own = env.get("PIP_CONFIG_FILE", "")
    if own and own != os.devnull:
        return [Path(own), _netrc(home, env)]
    if sys.platform == "win32":
        return [_config_folder(home, env) / "pip" / "pip.ini", _netrc(home, env)]
    # pip takes Apple's place only where the folder is there, and else looks where it does on Linux.
    apple = home / "Library" / "Application Support" / "pip"
    if sys.platform == "darwin":
        return [(apple if apple.is_dir() else home / ".config" / "pip") / "pip.conf", _netrc(home, env)]
    return [_config_folder(home, env) / "pip" / "pip.conf", _netrc(home, env)]


def _pip_plan(existing: Mapping[Path, str | None], target: LoginTarget) -> Mapping[Path, str]:
    config, netrc = existing
    host = _host(target)
    options = {"index-url": f"{target.repository_url}simple/"}
    if _needs_trust(target):
        trusted = read_ini(existing[config]).get("global", {}).get("trusted-host", "").split()
        options["trusted-host"] = "\n".join(["", *dict.fromkeys([*trusted, host])])
    return {
        config: set_ini(existing[config], "global", options),
        netrc: set_netrc(existing[netrc], host, target.username, target.token),
    }


def _needs_trust(target: LoginTarget) -> bool:
    """Pip ignores an index over plain HTTP unless the host is trusted, or is this machine."""
    parts = urlsplit(target.repository_url)
    try:
        is_here = ip_address(parts.hostname or "").is_loopback
    except ValueError:
        is_here = parts.hostname == "localhost"
    return parts.scheme == "http" and not is_here


def _pip_notes(target: LoginTarget) -> list[str]:
    notes = [
        f"pip install <package> now asks {target.repository_url}simple/",
        f"the token is in .netrc, for every URL of {_host(target)}",
        "PIP_INDEX_URL in the environment, or --index-url, still wins over pip's configuration",
    ]
    if _needs_trust(target):
        notes.append(f"the server has no TLS: {_host(target)} is marked as trusted, and the token travels in clear")
    return notes


def _uv_files(home: Path, env: Mapping[str, str]) -> list[Path]:
    own = env.get("UV_CONFIG_FILE", "")
    return [Path(own) if own else _config_folder(home, env) / "uv" / "uv.toml", _netrc(home, env)]


def _uv_plan(existing: Mapping[Path, str | None], target: LoginTarget) -> Mapping[Path, str]:
    config, netrc = existing
    host = _host(target)
    index: dict[str, str | bool] = {
        "name": INDEX_NAME,
        "url": f"{target.repository_url}simple/",
        "publish-url": target.repository_url,
        "default": True,
        # Without it uv asks anonymously first, and where anonymous reading is allowed it would never say who asks.
        "authenticate": "always",
    }
    settings = read_toml(existing[config])
    top_level = {"publish-url": target.repository_url} if _owns_publish_url(settings) else {}
    return {
        config: set_toml_index(existing[config], index, top_level),
        netrc: set_netrc(existing[netrc], host, target.username, target.token),
    }


def _owns_publish_url(settings: Mapping[str, Any]) -> bool:
    """Whether ``publish-url`` is free, or came from an earlier login: somebody's own choice stays."""
    said = settings.get("publish-url")
    indexes = settings.get("index")
    mine: Mapping[str, Any] = {}
    if isinstance(indexes, list):
        mine = next((index for index in indexes if index.get("name") == INDEX_NAME), mine)
    return said is None or said == mine.get("publish-url")


def _uv_notes(target: LoginTarget) -> list[str]:
    return [
        f"uv add and uv pip install now ask {target.repository_url}simple/",
        f"publish with: uv publish --trusted-publishing never --index {INDEX_NAME}",
        f"the token is in .netrc, for every URL of {_host(target)}",
        "UV_DEFAULT_INDEX in the environment, and a project's own indexes, still win over this configuration",
    ]


def _twine_files(home: Path, _env: Mapping[str, str]) -> list[Path]:
    return [home / ".pypirc"]


def _twine_plan(existing: Mapping[Path, str | None], target: LoginTarget) -> Mapping[Path, str]:
    (path,) = existing
    _host(target)
    if any(character in target.username + target.token for character in "\n\r"):
        raise Invalid("a user's name or token cannot have a line break in it")
    # What twine assumes when the option is not there: written out, so that it still holds.
    listed = read_ini(existing[path]).get("distutils", {}).get("index-servers", "pypi testpypi").split()
    servers = "\n".join(["", *dict.fromkeys([*listed, INDEX_NAME])])
    text = set_ini(existing[path], "distutils", {"index-servers": servers})
    values = {"repository": target.repository_url, "username": target.username, "password": target.token}
    return {path: set_ini(text, INDEX_NAME, values)}


def _twine_notes(_target: LoginTarget) -> list[str]:
    return [
        f"publish with: twine upload --repository {INDEX_NAME} dist/*",
        "TWINE_REPOSITORY_URL in the environment still wins over .pypirc",
    ]


TOOLS: Mapping[str, Tool] = MappingProxyType(
    {
        tool.name: tool
        for tool in (
            Tool("pip", _pip_files, _pip_plan, _pip_notes),
            Tool("uv", _uv_files, _uv_plan, _uv_notes),
            Tool("twine", _twine_files, _twine_plan, _twine_notes),
        )
    }
)
