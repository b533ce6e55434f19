"""Which index the client tools of this machine use: what a person has configured for pip is right for us too."""

from __future__ import annotations

import ast
import configparser
import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path


def default_upstream_url(
    is_own: Callable[[str], bool],
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
    prefix: Path | None = None,
    etc: Path = Path("/etc"),
) -> str:
    """The simple index's URL, ending in a slash. Environment first, then pip's files, then the well-known constant.

    What ``is_own`` says of is this server and no upstream of its own: on the account that serves, ``login`` has pointed
    pip at it. The other arguments stand for ``os.environ``, the home directory, ``sys.prefix`` and the machine's
    ``/etc``. The URL is given back as configured, credentials in it included: it is not for logs.
    """
    environ = os.environ if environ is None else environ
    files = _files(environ, home or Path.home(), prefix or Path(sys.prefix), etc)
    for url in (environ.get("PIP_INDEX_URL", "").strip(), *_configured(files)):
        if url and not is_own(url):
            return url.rstrip("/") + "/"
    return _well_known().rstrip("/") + "/"


@functools.cache
def _well_known() -> str:
    """The constant that pypi-simple carries, read in its source.

    To import it takes half a second (measured), for which the first install through a new server would wait.
    """
    spec = importlib.util.find_spec("pypi_simple")
    if spec is not None and spec.origin is not None:
        for statement in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
            is_it = isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == "PYPI_SIMPLE_ENDPOINT"
            if isinstance(statement, ast.AnnAssign) and is_it and statement.value is not None:
                return str(ast.literal_eval(statement.value))
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    return PYPI_SIMPLE_ENDPOINT


def _configured(files: Iterable[Path]) -> Iterator[str]:
    for path in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (OSError, UnicodeDecodeError, configparser.Error):
            # pip itself reports a file it cannot read; for us the next one counts.
            continue
        for option in ("index-url", "index_url"):
            if url := parser.get("global", option, fallback="").strip():
                yield url
                break


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
