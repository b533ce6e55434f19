"""Changes to the configuration files of client tools: as text, so that comments and everything else in them stay.

Each function reads its result back with a parser of the format: a file that came out wrong is never handed on.
"""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from registry.errors import Invalid

_SECTION = re.compile(r"\[(?P<name>[^]]+)\]")
_OPTION = re.compile(r"(?P<name>[^\s#;=:][^=:]*?)\s*[=:]")
_NETRC_WORD = re.compile(r'"(?:\\.|[^"\\])*"|\S+')
_TOML_TABLE = re.compile(r"^[ \t]*\[\[?[^\[\]\n]+\]?\][ \t]*(?:#.*)?$", re.MULTILINE)


def set_ini(text: str | None, section: str, options: Mapping[str, str]) -> str:
    """Set options of one section of a configparser file; values of several lines are given with newlines.

    Options are found whatever their case and with ``_`` for ``-``. Raises Invalid for a file that cannot be read.
    """
    before = read_ini(text)
    lines = (text or "").splitlines()
    for option, value in options.items():
        written = f"{option} = {value}".replace("= \n", "=\n").replace("\n", "\n    ").rstrip()
        start, stop = _section(lines, section)
        if start < 0:
            lines += [*([""] if lines and lines[-1].strip() else []), f"[{section}]", written]
            continue
        first, last = _option(lines, option, start, stop)
        lines[first:last] = [written]
    result = "\n".join(lines) + "\n"
    after = read_ini(result)
    expected = {**before, section: {**before.get(section, {}), **{_folded(key): options[key] for key in options}}}
    if {name: _words(values) for name, values in after.items()} != {n: _words(v) for n, v in expected.items()}:
        raise Invalid(f"cannot set {', '.join(options)} in [{section}] of this file; set it by hand")
    return result


def read_ini(text: str | None) -> dict[str, dict[str, str]]:
    """Options by section, names folded to lower case and ``-``. Raises Invalid."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text or "")
    except configparser.Error as error:
        raise Invalid(f"the existing file cannot be read: {error.message.splitlines()[0]}") from error
    return {name: {_folded(key): value for key, value in parser.items(name)} for name in parser.sections()}


def set_netrc(text: str | None, host: str, login: str, password: str) -> str:
    """Make ``host``'s entry the only one for it, first in the file (``default`` must stay behind all others).

    Raises Invalid for values that would need quotation, which readers of the format treat differently.
    """
    if any(not value or re.search(r"[\s\"'\\#]", value) for value in (host, login, password)):
        raise Invalid("a .netrc file cannot hold blanks, quotation marks, backslashes or '#' in a name or token")
    kept, position = "", 0
    for start, end in _netrc_entries(text or "", host):
        kept += (text or "")[position:start]
        position = end
    kept += (text or "")[position:]
    return f"machine {host} login {login} password {password}\n" + kept.lstrip("\n")


def set_toml_index(text: str | None, index: Mapping[str, str | bool], top_level: Mapping[str, str]) -> str:
    """Put an ``[[index]]`` table in front of all tables, replacing the one of the same name, and set top-level keys.

    Raises Invalid for a file that is not TOML or has its indexes in another form.
    """
    source = text or ""
    before = read_toml(source)
    tables = list(_toml_tables(source))
    own = [span for span in tables if _is_index(source[slice(*span)], index["name"])]
    preamble_end = tables[0][0] if tables else len(source)
    preamble = source[:preamble_end]
    for key in top_level:
        preamble = re.sub(rf"^{re.escape(key)}[ \t]*=.*\n?", "", preamble, flags=re.MULTILINE)
    rest = "".join(_closing_comments(source[slice(*span)]) if span in own else source[slice(*span)] for span in tables)
    written = [f"{key} = {json.dumps(value)}" for key, value in top_level.items()]
    table = ["[[index]]", *(f"{key} = {json.dumps(value)}" for key, value in index.items())]
    parts = [preamble.rstrip("\n"), "\n".join(written), "\n".join(table) + "\n", rest.strip("\n")]
    result = "\n\n".join(part for part in parts if part).rstrip("\n") + "\n"
    others = [table for table in before.get("index", []) if table.get("name") != index["name"]]
    if read_toml(result) != {**before, **top_level, "index": [dict(index), *others]}:
        raise Invalid("cannot add an index to this file; add it by hand")
    return result


def read_toml(text: str | None) -> dict[str, Any]:
    """The file's content. Raises Invalid."""
    try:
        return tomllib.loads(text or "")
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"the existing file cannot be read: {error}") from error


def _section(lines: list[str], section: str) -> tuple[int, int]:
    """First line after the section's header and first line after the section; -1 when there is none."""
    start = -1
    for number, line in enumerate(lines):
        matched = _SECTION.match(line)
        if matched and start >= 0:
            return start, number
        if matched and matched["name"] == section:
            start = number + 1
    return start, len(lines)


def _option(lines: list[str], option: str, start: int, stop: int) -> tuple[int, int]:
    """The lines an option takes, continuations included; an empty place at the start when it is not there."""
    for number in range(start, stop):
        matched = _OPTION.match(lines[number])
        if matched and _folded(matched["name"]) == option:
            last = number + 1
            while last < stop and lines[last][:1] in (" ", "\t") and lines[last].strip():
                last += 1
            return number, last
    return start, start


def _folded(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def _words(values: Mapping[str, str]) -> dict[str, list[str]]:
    return {key: value.split() for key, value in values.items()}


def _netrc_entries(text: str, host: str) -> Iterator[tuple[int, int]]:
    """Where entries for ``host`` start and end (with their line's end)."""
    position = 0
    while word := _NETRC_WORD.search(text, position):
        start, position = word.span()
        if word[0].startswith("#"):
            position = _line_end(text, start)
        elif word[0] == "macdef":  # a macro ends at an empty line
            blank = text.find("\n\n", position)
            position = blank if blank >= 0 else len(text)
        elif word[0] in ("machine", "default"):
            name = _NETRC_WORD.search(text, position) if word[0] == "machine" else None
            position = _netrc_entry_end(text, name.end() if name else position)
            if name and name[0].strip('"') == host:
                end = _line_end(text, position)
                if not text[position:end].strip():
                    position = end
                yield start, position


def _netrc_entry_end(text: str, position: int) -> int:
    while (key := _NETRC_WORD.search(text, position)) and key[0] in ("login", "user", "account", "password"):
        value = _NETRC_WORD.search(text, key.end())
        position = value.end() if value else key.end()
    return position


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return end + 1 if end >= 0 else len(text)


def _toml_tables(text: str) -> Iterator[tuple[int, int]]:
    # A line that looks like a table's header may lie within a text or an array of several lines: it is a header only
    # if what precedes it is a document of its own.
    starts = [found.start() for found in _TOML_TABLE.finditer(text) if _is_toml(text[: found.start()])]
    yield from pairwise([*starts, len(text)])


def _closing_comments(table: str) -> str:
    """What stands behind the last key of a table: comments there belong to the table that follows."""
    lines = table.splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#"))
    return "".join(lines[last + 1 :])


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _is_index(table: str, name: str | bool) -> bool:
    indexes = tomllib.loads(table).get("index")
    return isinstance(indexes, list) and len(indexes) == 1 and indexes[0].get("name") == name
