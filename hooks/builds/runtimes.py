"""``phases.install.runtime-versions``: which of the runtimes that a sandbox has answers a document's wish. Pure.

CodeBuild's images hold several of each, and the section picks; nothing is downloaded here either. What a wish names and
the sandbox lacks is warned of, and the build goes on with what is there, as with an image of one's own.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

MAX_OUTPUT_BYTES = 64 * 1024

# Where a runtime's program may lie, as shell patterns ($d: each directory of PATH), and how it is asked.
_PROGRAMS: Mapping[str, tuple[str, str]] = {
    "docker": ("$d/docker", "--version"),
    "dotnet": ("$d/dotnet", "--version"),
    "golang": ("$d/go /usr/local/go/bin/go /usr/lib/go-*/bin/go", "version"),
    "java": ("$d/java /usr/lib/jvm/*/bin/java", "-version"),
    "nodejs": ("$d/node $d/nodejs /usr/lib/nodejs-*/bin/node", "--version"),
    "php": ("$d/php $d/php[0-9].[0-9]", "--version"),
    "python": ("$d/python3 $d/python3.[0-9] $d/python3.[0-9][0-9]", "--version"),
    "ruby": ("$d/ruby $d/ruby[0-9].[0-9]", "--version"),
    "rust": ("$d/rustc", "--version"),
}
# What a chosen program is called by, where its own name carries a version.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "php": ("php",),
    "python": ("python3", "python"),
    "ruby": ("ruby",),
}
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_WISH = re.compile(r"[a-z]*((?:[0-9]+)(?:\.[0-9]+)*(?:\.x)?)\Z", re.IGNORECASE)
_REFERENCE = re.compile(r"\$(?:(\w+)|\{(\w+)\})\Z")


@dataclass(frozen=True, slots=True)
class Installed:
    """A runtime that is there: its program and its version (``3.11.7``)."""

    path: str
    version: str


def probe_script(names: Sequence[str]) -> str:
    """A script that prints a line for each program of the runtimes ``names``: name, path, what it says of itself."""
    lines = [
        'probe() { [ -f "$2" ] && [ -x "$2" ] || return 0; p=$2; [ "$1" = java ] && p=$(readlink -f "$2");',
        '  printf "%s\\t%s\\t" "$1" "$p"; "$2" $3 2>&1 </dev/null | head -n 1; }',
    ]
    for name in names:
        if name in _PROGRAMS:
            patterns, question = _PROGRAMS[name]
            # Word by word, so that the first directory of PATH comes first for the first pattern.
            for pattern in patterns.split():
                inner = f'probe {name} "$f" {question}'
                if pattern.startswith("$d/"):
                    where = f'"$d"/{pattern.removeprefix("$d/")}'
                    lines.append(f"(IFS=:; for d in $PATH; do for f in {where}; do {inner}; done; done)")
                else:
                    lines.append(f"for f in {pattern}; do {inner}; done")
    return "\n".join([*lines, "true"])


def parse_found(output: str) -> dict[str, list[Installed]]:
    """What the script printed, by runtime, in its order; lines that are none of its own are left out."""
    found: dict[str, list[Installed]] = {}
    for line in output.splitlines():
        name, _, rest = line.partition("\t")
        path, tab, words = rest.partition("\t")
        number = _NUMBER.search(words)
        if name in _PROGRAMS and tab and number and path.startswith("/"):
            found.setdefault(name, []).append(Installed(path, number[0]))
    return found


def choose(wish: str, found: Sequence[Installed]) -> Installed | None:
    """The newest that answers ``wish`` (``3.12``, ``18``, ``3.x``, ``corretto17``, ``latest``), the first of equals."""
    suitable = [one for one in found if _answers(one.version, wish)]
    return max(suitable, key=lambda one: _numbers(one.version), default=None)


def provide(
    wishes: Mapping[str, str],
    variables: Mapping[str, str],
    found: Mapping[str, Sequence[Installed]],
    say: Callable[[str], None],
) -> str:
    """A script that puts what is wished first in PATH, for the sandbox to run; "" when nothing is to do.

    ``variables`` are for wishes like ``$VERSION``; ``say`` is told what is taken and what is not there.
    """
    lines: list[str] = []
    for name, wish in wishes.items():
        word = _expanded(wish, variables)
        there = found.get(name, ())
        chosen = choose(word, there)
        if chosen is not None:
            say(f"{name} {word}: {chosen.path} ({chosen.version})")
            directories = variables.get("PATH", "").split(":")
            if name == "java" or chosen != there[0] or _directory(chosen.path) not in directories:
                lines += _set_up(name, chosen)
        elif there:
            versions = ", ".join(dict.fromkeys(one.version for one in there))
            say(f"Warning: runtime-versions: {name} {word} is not here; the build goes on with what is: {versions}")
        else:
            say(f"Warning: runtime-versions: {name} {word} is not here, nor any other {name}")
    return "\n".join(lines)


def _set_up(name: str, chosen: Installed) -> list[str]:
    directory = _directory(chosen.path)
    if name == "java":
        home = shlex.quote(directory.removesuffix("/bin"))
        return [f"export JAVA_HOME={home}", 'export PATH="$JAVA_HOME/bin:$PATH"']
    if name not in _NAMES:
        return [f'export PATH={shlex.quote(directory)}:"$PATH"']
    own = f'"$HOME/.runtimes/{name}"'
    links = [f"ln -sf {shlex.quote(chosen.path)} {own}/{called}" for called in _NAMES[name]]
    return [f"mkdir -p {own}", *links, f'export PATH={own}:"$PATH"']


def _directory(path: str) -> str:
    return path.rpartition("/")[0]


def _expanded(wish: str, variables: Mapping[str, str]) -> str:
    match = _REFERENCE.match(wish)
    return wish if match is None else variables.get(match[1] or match[2], "")


def _answers(version: str, wish: str) -> bool:
    if wish.lower() == "latest":
        return True
    match = _WISH.match(wish)
    if match is None:
        return False
    wanted = _numbers(match[1].lower().removesuffix(".x"))
    return _numbers(version)[: len(wanted)] == wanted


def _numbers(version: str) -> tuple[int, ...]:
    numbers = tuple(int(part[:9]) for part in version.split("."))
    # Java called its eighth version 1.8.
    return numbers[1:] if numbers[:2] == (1, 8) else numbers
