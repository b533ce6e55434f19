"""Client configuration for npm, pnpm and yarn.

npm and pnpm keep address and token in ``.npmrc``, the token under the exact path of the repository: with another path,
or without the slash at its end, it is not sent. yarn of the second generation and later reads ``.yarnrc.yml`` only, yarn
of the first reads ``.npmrc``: both are written for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from registry.errors import Invalid
from registry.format import LoginTarget, Tool
from registry.formats.npm import npmrc, yarnrc


def _npmrc_file(home: Path, env: Mapping[str, str]) -> Path:
    own = next((value for name, value in env.items() if name.lower() == "npm_config_userconfig" and value), "")
    return Path(own) if own else home / ".npmrc"


def _npmrc_files(home: Path, env: Mapping[str, str]) -> list[Path]:
    return [_npmrc_file(home, env)]


def _npmrc_plan(existing: Mapping[Path, str | None], target: LoginTarget) -> Mapping[Path, str]:
    (path,) = existing
    return {path: npmrc.set_options(existing[path], _options(target))}


def _options(target: LoginTarget) -> dict[str, str]:
    parts = urlsplit(target.repository_url)
    if not parts.hostname or not target.repository_url.endswith("/"):
        raise Invalid(f"the repository's URL must have a host and end in a slash: {target.repository_url!r}")
    return {"registry": target.repository_url, f"//{parts.netloc}{parts.path}:_authToken": target.token}


def _notes(target: LoginTarget) -> list[str]:
    return [
        f"install and publish now ask {target.repository_url}",
        "the token is in .npmrc, for this repository's address only",
        "a project's own .npmrc, npm_config_registry in the environment, and --registry still win over it",
    ]


def _yarn_files(home: Path, env: Mapping[str, str]) -> list[Path]:
    # YARN_RC_FILENAME renames the file in every folder, the home directory included.
    return [home / (env.get("YARN_RC_FILENAME") or ".yarnrc.yml"), _npmrc_file(home, env)]


def _yarn_plan(existing: Mapping[Path, str | None], target: LoginTarget) -> Mapping[Path, str]:
    settings, options = existing
    parts = urlsplit(target.repository_url)
    values: dict[str, str | bool | list[str]] = {
        "npmRegistryServer": target.repository_url.rstrip("/"),
        "npmAuthToken": target.token,
        "npmAlwaysAuth": True,
    }
    if parts.scheme == "http" and parts.hostname:
        listed = yarnrc.read(existing[settings]).get("unsafeHttpWhitelist")
        hosts = [str(host) for host in listed] if isinstance(listed, list) else []
        values["unsafeHttpWhitelist"] = list(dict.fromkeys([*hosts, parts.hostname]))
    return {
        settings: yarnrc.set_values(existing[settings], values),
        options: npmrc.set_options(existing[options], _options(target)),
    }


def _yarn_notes(target: LoginTarget) -> list[str]:
    notes = [
        f"yarn add and yarn npm publish now ask {target.repository_url}",
        "the token is in .yarnrc.yml, and for yarn 1 in .npmrc",
        "a project's own .yarnrc.yml, and YARN_NPM_REGISTRY_SERVER in the environment, still win over it",
    ]
    if target.repository_url.startswith("http://"):
        notes.append(f"the server has no TLS: {urlsplit(target.repository_url).hostname} is in unsafeHttpWhitelist")
    return notes


TOOLS: Mapping[str, Tool] = MappingProxyType(
    {
        tool.name: tool
        for tool in (
            Tool("npm", _npmrc_files, _npmrc_plan, _notes),
            Tool("pnpm", _npmrc_files, _npmrc_plan, _notes),
            Tool("yarn", _yarn_files, _yarn_plan, _yarn_notes),
        )
    }
)
