"""``.npmrc`` files: the ini dialect of npm, read as npm reads it and changed without touching anything else. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from registry.errors import Invalid

_VARIABLE = re.compile(r"(?<!\\)(\\*)\$\{([^${}]+)\}")


def read(text: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Top-level options, the last one counting; ``${NAME}`` is replaced where the variable is set (as npm does).

    Sections and arrays (``name[]``) are not options of a registry and are passed over.
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("["):
            break  # what follows belongs to a section
        if not stripped or stripped[0] in ";#":
            continue
        name, _, value = stripped.partition("=")
        name = _plain(name)
        if not name.endswith("[]"):
            found[_expand(name, environ)] = _expand(_plain(value), environ)
    return found


def set_options(text: str | None, options: Mapping[str, str]) -> str:
    """Set top-level options; every other line stays as it is. Raises Invalid for a value that no line can hold."""
    if any(re.search(r"[\r\n\0;#]", name + value) for name, value in options.items()):
        raise Invalid("an .npmrc file cannot hold line breaks, ';' or '#' in a name, URL or token")
    lines = (text or "").splitlines()
    end = next((number for number, line in enumerate(lines) if line.strip().startswith("[")), len(lines))
    kept = [line for line in lines[:end] if _plain(line.partition("=")[0]) not in options or _is_comment(line)]
    while kept and not kept[-1].strip():
        kept.pop()
    written = [f"{name}={value}" for name, value in options.items()]
    result = "\n".join([*kept, *written, *lines[end:]]) + "\n"
    after = read(result, {})
    if any(after.get(name) != value for name, value in options.items()):
        raise Invalid(f"cannot set {', '.join(options)} in this file; set it by hand")
    return result


def _is_comment(line: str) -> bool:
    return line.strip()[:1] in (";", "#")


def _plain(raw: str) -> str:
    """A name or value without quotation marks and a comment behind it."""
    text = raw.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        if text[0] == "'":
            return text[1:-1]
        try:
            value = json.loads(text)
        except ValueError:
            return text
        return value if isinstance(value, str) else text
    return re.split(r"(?<!\\)[;#]", text, maxsplit=1)[0].strip()


def _expand(text: str, environ: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: environ.get(found[2], found[0]) if not found[1] else found[0], text)
