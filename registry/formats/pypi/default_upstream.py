"""Which index the client tools of this machine use: what a person has configured for pip is right for us too."""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path


def default_upstream_url(
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
    prefix: Path | None = None,
    etc: Path = Path("/etc"),
) -> str:
    """The simple index's URL, ending in a slash. Environment first, then pip's files, then the well-known constant.

    The arguments stand for ``os.environ``, the home directory, ``sys.prefix`` and the machine's ``/etc``. The URL is
    given back as configured, credentials in it included: it is not for logs.
    """
    environ = os.environ if environ is None else environ
    url = environ.get("PIP_INDEX_URL", "").strip() or _configured(
        _files(environ, home or Path.home(), prefix or Path(sys.prefix), etc)
    )
    if not url:
        # Here, not above: the library that carries the constant imports an HTTP client.
        from pypi_simple import PYPI_SIMPLE_ENDPOINT

        url = PYPI_SIMPLE_ENDPOINT
    return url.rstrip("/") + "/"


def _configured(files: Iterable[Path]) -> str | None:
    for path in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (OSError, UnicodeDecodeError, configparser.Error):
            # pip itself reports a file it cannot read; for us the next one counts.
            continue
        for option in ("index-url", "index_url"):
            if url := parser.get("global", option, fallback="").strip():
                return url
    return None


def _files(environ: Mapping[str, str], home: Path, prefix: Path, etc: Path) -> Iterator[Path]:
    """Pip's files, strongest first (the reverse of the order in which pip loads them)."""
    own = environ.get("PIP_CONFIG_FILE", "")
    if own == os.devnull:  # pip's way to say: no files at all
        return
    if own:
        yield Path(own)
    yield prefix / "pip.conf"
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    yield home / ".pip" / "pip.conf"
    yield etc / "pip.conf"
    for folder in reversed((environ.get("XDG_CONFIG_DIRS") or str(etc / "xdg")).split(os.pathsep)):
        yield Path(folder) / "pip" / "pip.conf"
