"""Which registry the client tools of this machine use: what a person has configured for npm is right for us too."""

from __future__ import annotations

import base64
import binascii
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from registry.formats.npm import npmrc


def default_upstream_url(
    is_own: Callable[[str], bool],
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
    prefixes: tuple[Path, ...] | None = None,
) -> str:
    """The registry's URL, ending in a slash: the environment first, then npm's files, then the well-known constant.

    What ``is_own`` says of is this server and no upstream of its own: ``login`` has pointed npm at it. The other
    arguments stand for ``os.environ``, the home directory and where npm may be installed. What npm would send as
    credentials for the URL is in it (``https://user:password@…``, a bearer token with an empty user): it is not for logs.
    """
    environ = os.environ if environ is None else environ
    options: dict[str, str] = {}
    registries = [_variable(environ, "registry")]
    for path in _files(environ, home or Path.home(), _prefixes() if prefixes is None else prefixes):
        try:
            found = npmrc.read(path.read_text(encoding="utf-8"), environ)
        except (OSError, UnicodeDecodeError):
            continue  # npm itself reports a file it cannot read; for us the next one counts
        registries.append(found.get("registry", "").strip())
        options = {**found, **options}
    for url in registries:
        if url.startswith(("https://", "http://")) and not is_own(url):
            return _with_credential(url.rstrip("/") + "/", options)
    return public_registry_url()


def public_registry_url() -> str:
    """The public registry, as the package-URL specification's own library has it."""
    from packageurl.contrib.purl2url import get_download_url

    parts = urlsplit(str(get_download_url("pkg:npm/x@1.0.0")))  # type: ignore[no-untyped-call]
    return f"https://{parts.netloc}/"


def _variable(environ: Mapping[str, str], option: str) -> str:
    """``npm_config_<option>``; npm takes any case."""
    wanted = f"npm_config_{option}"
    return next((value.strip() for name, value in environ.items() if name.lower() == wanted and value.strip()), "")


def _files(environ: Mapping[str, str], home: Path, prefixes: tuple[Path, ...]) -> Iterator[Path]:
    """The files of npm, strongest first. A project's own is none of them: a server has no project."""
    yield Path(_variable(environ, "userconfig") or home / ".npmrc")
    if own := _variable(environ, "globalconfig"):
        yield Path(own)
        return
    own_prefix = _variable(environ, "prefix") or environ.get("PREFIX", "")
    for prefix in (Path(own_prefix),) if own_prefix else prefixes:
        yield prefix / "etc" / "npmrc"
        if prefix == Path("/usr"):
            yield Path("/etc/npmrc")


def _prefixes() -> tuple[Path, ...]:
    node = shutil.which("node")
    found = [Path(node).resolve().parent.parent] if node else []
    return tuple(dict.fromkeys([*found, Path("/usr/local"), Path("/usr")]))


def _with_credential(url: str, options: Mapping[str, str]) -> str:
    """``url`` with what npm would send there: the option whose ``//host/path/`` is the longest that fits."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        return url
    place = f"//{parts.netloc}{parts.path}"
    while place not in ("//", "/"):
        credential = _credential(place, options)
        if credential is not None:
            user, password = (quote(word, safe="") for word in credential)
            return f"{parts.scheme}://{user}:{password}@{parts.netloc}{parts.path}"
        place = place.rstrip("/").rpartition("/")[0] + "/"
    return url


def _credential(place: str, options: Mapping[str, str]) -> tuple[str, str] | None:
    for spelled in (place, place.rstrip("/")):
        if token := options.get(f"{spelled}:_authToken"):
            return "", token
        try:
            if pair := options.get(f"{spelled}:_auth"):
                user, _, password = base64.b64decode(pair, validate=True).decode().partition(":")
                return user, password
            user, password = options.get(f"{spelled}:username", ""), options.get(f"{spelled}:_password", "")
            if user and password:
                return user, base64.b64decode(password, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    return None
