"""Core metadata documents (METADATA of a wheel, PKG-INFO of an sdist), versions 1.0 to 2.x.

The fields are read by ``packaging``; in front of it stands a check of the document's form, because the mail parser
beneath accepts, and takes quadratic time for, much that no build tool writes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from packaging.metadata import RawMetadata, parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from registry.errors import Invalid, TooLarge
from registry.formats.pypi.names import canonical_version, publishable_name
from registry.names import PackageName

DESCRIPTION_BYTES = 1024 * 1024  # what is kept beside the file; the whole document is served as a file
_TYPE_CHARACTERS = 100
_HEADER_BYTES = 2 * 1024 * 1024
_HEADER_LINES = 20_000
_FIELD_NAMES = 200
_SPECIFIER_CHARACTERS = 4000  # stays under the interpreter's limit for converting digits

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_FIELD = re.compile(rb"([A-Za-z0-9-]+)[ \t]*:")
_METADATA_VERSION = re.compile(r"[12]\.[0-9]{1,3}\Z")
_NEWEST_VERSION = (2, 5)
# Fields that a repetition would make ambiguous for a resolver; elsewhere the newest specification decides what is odd.
_SINGLE = ("metadata-version", "name", "version", "requires-python")
# They belong to mail: a reader that honours them gets another description than one that does not.
_FOREIGN = {b"content-type", b"content-transfer-encoding", b"mime-version"}

_TEXTS = (
    "metadata_version",
    "license",
    "license_expression",
    "author",
    "author_email",
    "maintainer",
    "maintainer_email",
    "home_page",
    "download_url",
    "requires_python",
)
_LISTS = (
    "classifiers",
    "requires_dist",
    "provides_extra",
    "license_files",
    "dynamic",
    "platforms",
    "keywords",
    "import_names",
    "import_namespaces",
)


@dataclass(frozen=True, slots=True)
class CoreMetadata:
    """What the document says. ``fields`` is JSON-able: texts, lists of texts, and ``project_urls`` by label.

    ``fields`` holds only what is there; its names are those of the project JSON API. The description is not in it: it
    is cut at ``DESCRIPTION_BYTES``, and ``description_is_cut`` in ``fields`` says so.
    """

    name: PackageName
    display_name: str
    version: str
    display_version: str
    summary: str
    requires_python: str | None
    fields: dict[str, Any]
    description: str
    description_type: str


def parse(document: bytes, where: str) -> CoreMetadata:
    """Read a document; ``where`` names it in messages. Raises Invalid or TooLarge."""
    parts = _BLANK_LINE.split(document, maxsplit=1)
    header, body = parts[0], parts[1] if len(parts) == 2 else b""
    _check_form(header, where)
    raw, unparsed = parse_email(header.rstrip(b"\r\n") + b"\n\n")
    twice = next((name for name in _SINGLE if name in unparsed), None)
    if twice:
        raise Invalid(f"{where}: the field {twice} is there twice or is not UTF-8")
    _check_fields(raw, where)
    name, version = raw["name"].strip(), raw["version"].strip()
    description, is_cut = _description(raw, body)
    return CoreMetadata(
        name=publishable_name(name),
        display_name=name,
        version=canonical_version(version),
        display_version=version,
        summary=_clean(" ".join(raw.get("summary", "").split())),
        requires_python=_clean(raw.get("requires_python", "")) or None,
        fields={**_fields(raw), **({"description_is_cut": True} if is_cut else {})},
        description=description,
        description_type=_clean(raw.get("description_content_type", ""))[:_TYPE_CHARACTERS],
    )


def is_newer_than_known(metadata_version: str) -> bool:
    """Whether a document (that was parsed) is of a later version than this module knows all fields of."""
    major, _, minor = metadata_version.partition(".")
    return (int(major), int(minor)) > _NEWEST_VERSION


def _check_form(header: bytes, where: str) -> None:
    if len(header) > _HEADER_BYTES:
        raise TooLarge(f"the fields of {where}", _HEADER_BYTES)
    lines = header.replace(b"\r\n", b"\n").split(b"\n")
    if len(lines) > _HEADER_LINES:
        raise TooLarge(f"the number of lines of {where}", _HEADER_LINES)
    if b"\0" in header or any(b"\r" in line for line in lines):
        raise Invalid(f"{where}: there is a NUL or a lone carriage return in the fields")
    names: set[bytes] = set()
    for number, line in enumerate(lines, start=1):
        field = _FIELD.match(line)
        if field:
            names.add(field[1].lower())
        elif line and not (number > 1 and line[:1] in b" \t"):
            # Readers take such a line for the start of the description, and with it all fields that follow.
            raise Invalid(f"{where}: line {number} is neither a field nor the continuation of one")
    if len(names) > _FIELD_NAMES:
        raise TooLarge(f"the number of different fields of {where}", _FIELD_NAMES)
    if foreign := names & _FOREIGN:
        raise Invalid(f"{where}: the field {min(foreign).decode()} has no place there")


def _check_fields(raw: RawMetadata, where: str) -> None:
    for field in ("metadata_version", "name", "version"):
        if not str(raw.get(field, "")).strip():
            raise Invalid(f"{where}: the field {field.replace('_', '-').title()} is missing")
    # A new minor version adds fields and takes none away: refusing it would refuse every package of a new build tool.
    if not _METADATA_VERSION.match(raw["metadata_version"].strip()):
        raise Invalid(f"{where}: Metadata-Version {raw['metadata_version'][:40]!a} is not 1.x or 2.x")
    try:
        SpecifierSet(_bounded(raw.get("requires_python", ""), where))
        for requirement in raw.get("requires_dist", []):
            Requirement(_bounded(requirement, where))
    except InvalidSpecifier as error:
        raise Invalid(f"{where}: Requires-Python {raw['requires_python'][:200]!a} is no specifier") from error
    except (InvalidRequirement, RecursionError) as error:  # markers nest: "((((…"
        raise Invalid(f"{where}: Requires-Dist {requirement[:200]!a} is no requirement (PEP 508)") from error


def _bounded(text: str, where: str) -> str:
    if len(text) > _SPECIFIER_CHARACTERS:
        raise TooLarge(f"a requirement of {where}", _SPECIFIER_CHARACTERS)
    return text


def _fields(raw: RawMetadata) -> dict[str, Any]:
    given: dict[str, Any] = dict(raw)
    fields: dict[str, Any] = {key: text for key in _TEXTS if (text := _clean(given.get(key, "")))}
    for key in _LISTS:
        if values := [_clean(value) for value in given.get(key) or ()]:
            fields[key] = values
    if urls := given.get("project_urls"):
        fields["project_urls"] = {_clean(label): _clean(url) for label, url in urls.items()}
    return fields


def _description(raw: RawMetadata, body: bytes) -> tuple[str, bool]:
    """The text that stands behind the fields or in one of them, and whether it was cut."""
    text = body.decode("utf-8", "replace") if body.strip() else _unfolded(raw.get("description", ""))
    kept = text.replace("\0", "").encode("utf-8", "replace")
    return kept[:DESCRIPTION_BYTES].decode("utf-8", "ignore"), len(kept) > DESCRIPTION_BYTES


def _unfolded(description: str) -> str:
    """Undo how the description was written into a field: eight blanks, or seven and a bar (core metadata 1.x and 2.1)."""
    first, *rest = description.split("\n")
    return "\n".join([first, *(line[8:] if line[:8] in (" " * 8, " " * 7 + "|") else line for line in rest)])


def _clean(text: str) -> str:
    # PostgreSQL stores neither NUL nor lone surrogates; "UNKNOWN" is how old tools wrote "nothing".
    text = text.replace("\0", "").encode("utf-8", "replace").decode().strip()
    return "" if text == "UNKNOWN" else text
