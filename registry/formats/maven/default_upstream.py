"""Which repository the Maven of this machine asks instead of the central one: what a person has set up is right for us too."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from registry.formats.maven.xml_reader import BadXml, read_texts

CENTRAL = "central"
_LIMIT_BYTES = 4 * 1024 * 1024
_MIRROR = ("settings", "mirrors", "mirror")
_WANTED = frozenset({_MIRROR, *((*_MIRROR, name) for name in ("mirrorOf", "url", "blocked", "layout"))})


def default_upstream_url(
    is_own: Callable[[str], bool],
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
    mvn: str | None = None,
) -> str:
    """The URL that stands for the central repository, ending in a slash: a mirror of Maven's, else the constant.

    What ``is_own`` says of is this server and no upstream of its own: on the account that serves, ``login`` has pointed
    Maven at it. The other arguments stand for ``os.environ``, the home directory and the ``mvn`` on the path.
    """
    environ = os.environ if environ is None else environ
    mirrors = [mirror for path in _files(environ, home or Path.home(), mvn) for mirror in _mirrors(path)]
    for url in _mirrors_of_central(mirrors):
        if not is_own(url):
            return url.rstrip("/") + "/"
    # Here, not above: the module carries the hosts of all ecosystems, and is wanted once in a while.
    from packageurl.contrib.purl2url import DEFAULT_MAVEN_REPOSITORY

    return DEFAULT_MAVEN_REPOSITORY.rstrip("/") + "/"


def _mirrors_of_central(mirrors: Iterable[Mapping[str, str]]) -> list[str]:
    """As ``DefaultMirrorSelector`` chooses: the exact id first, then patterns in order; blocked ones are never asked."""
    usable = [mirror for mirror in mirrors if mirror.get("blocked", "").lower() != "true" and mirror.get("url")]
    exact = [mirror["url"] for mirror in usable if mirror.get("mirrorOf") == CENTRAL]
    matching = [mirror["url"] for mirror in usable if _matches(mirror.get("mirrorOf", ""))]
    return [*exact, *matching]


def _matches(patterns: str) -> bool:
    """Whether a ``mirrorOf`` covers the central repository, which is external and asked over https."""
    found = False
    for pattern in (part.strip() for part in patterns.split(",")):
        if pattern == f"!{CENTRAL}":
            return False
        found = found or pattern in (CENTRAL, "*", "external:*")
    return found


def _mirrors(path: Path) -> Iterator[dict[str, str]]:
    try:
        texts = list(read_texts(path.read_bytes(), _WANTED, limit_bytes=_LIMIT_BYTES))
    except (OSError, BadXml):
        return  # Maven itself reports a file that it cannot read; for us the next one counts
    current: dict[str, str] = {}
    for element, text in texts:
        if element == _MIRROR:
            yield current
            current = {}
        elif element[:-1] == _MIRROR:
            current[element[-1]] = text


def _files(environ: Mapping[str, str], home: Path, mvn: str | None) -> Iterator[Path]:
    """Maven's settings, the person's before the machine's."""
    yield home / ".m2" / "settings.xml"
    installed = environ.get("MAVEN_HOME") or environ.get("M2_HOME")
    if installed:
        yield Path(installed) / "conf" / "settings.xml"
        return
    program = mvn if mvn is not None else shutil.which("mvn", path=environ.get("PATH"))
    if program:
        yield Path(program).resolve().parent.parent / "conf" / "settings.xml"
