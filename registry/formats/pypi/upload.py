"""The legacy upload form (multipart POST, ``:action=file_upload``): read, checked, and compared with the archive."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from registry.errors import Gone, Invalid
from registry.format import Release
from registry.formats.pypi.names import canonical_version, is_same_release, publishable_name
from registry.names import PackageName

_OBSOLETE_ACTIONS = frozenset({"submit", "submit_pkg_info", "doc_upload"})
_FILETYPES = frozenset({"bdist_wheel", "sdist"})
# Form field → algorithm as ``hashlib`` and the JSON API call it, and its length in hex digits.
_DIGEST_FIELDS = {
    "sha256_digest": ("sha256", 64),
    "blake2_256_digest": ("blake2b_256", 64),
    "md5_digest": ("md5", 32),
}
_HEX = re.compile(r"[0-9a-f]+\Z")
# What decides about identity must be said once: a reader that takes the last of two would act on another name.
_CONTROL = (
    ":action",
    "protocol_version",
    "name",
    "version",
    "filetype",
    "pyversion",
    "metadata_version",
    "attestations",
    *_DIGEST_FIELDS,
)
# uv and poetry say ``import_names`` where hatch says ``import_name`` (PEP 794).
_SPELLINGS = {"import_names": "import_name", "import_namespaces": "import_namespace"}


@dataclass(frozen=True, slots=True)
class UploadForm:
    """A form that keeps the rules. ``name`` and ``version`` are canonical.

    ``digests`` are lower-case hex by algorithm (``sha256``, ``blake2b_256``, ``md5``), each to be compared with the
    body. ``attestations`` is the field's text, unread. ``metadata`` holds all further fields with content, each a
    tuple of texts; it is for show: what is stored comes from the archive.
    """

    name: PackageName
    version: str
    filetype: str
    pyversion: str
    metadata_version: str
    digests: Mapping[str, str]
    attestations: str | None
    metadata: Mapping[str, tuple[str, ...]]


def parse_form(fields: Mapping[str, list[str]], *, require_digest: bool = True) -> UploadForm:
    """Read the form's text fields: all values of each, in order. Raises Gone or Invalid naming the field."""
    if cut := next((field for field in _CONTROL if any("\0" in value for value in fields.get(field, ()))), None):
        # Elsewhere it is only left out; here it would end the text for one reader and not for another.
        raise Invalid(f"the form field {cut} has a NUL in it")
    cleaned = _cleaned(fields)
    repeated = next((field for field in _CONTROL if len(fields.get(field, ())) > 1), None)
    if repeated:
        raise Invalid(f"the form field {repeated} is there twice")
    _check_action(cleaned)
    filetype, pyversion = _one(cleaned, "filetype"), _one(cleaned, "pyversion")
    if filetype not in _FILETYPES:
        raise Invalid(f"filetype {filetype[:40]!a}: only {' and '.join(sorted(_FILETYPES))} can be published")
    # Some tools leave it out for an sdist.
    if (filetype == "sdist") != (pyversion in ("", "source")):
        raise Invalid(f"pyversion {pyversion[:40]!a} does not go with filetype {filetype}")
    digests = _digests(cleaned)
    if require_digest and not digests:
        raise Invalid(f"the form has no digest; send one of {', '.join(_DIGEST_FIELDS)}")
    return UploadForm(
        name=publishable_name(_needed(cleaned, "name")),
        version=canonical_version(_needed(cleaned, "version")),
        filetype=filetype,
        pyversion=pyversion or "source",
        metadata_version=_one(cleaned, "metadata_version"),
        digests=MappingProxyType(digests),
        attestations=_one(cleaned, "attestations") or None,
        metadata=MappingProxyType({key: values for key, values in cleaned.items() if key not in _CONTROL}),
    )


def check_against(form: UploadForm, release: Release) -> None:
    """Raise Invalid when the form speaks of another name, version or kind of file than the archive does.

    ``release`` comes from ``metadata.inspect``, which has compared file name and archive: then all three agree.
    """
    packagetype = str(release.extra.get("packagetype"))
    for what, said, found, agree in (
        ("name", form.name, release.name, form.name == release.name),
        ("version", form.version, release.version, is_same_release(form.version, release.version)),
        ("filetype", form.filetype, packagetype, form.filetype == packagetype),
    ):
        if not agree:
            raise Invalid(f"the form says {what} {said}, the file {release.filename} says {found}")
    tag = str(release.extra.get("python_version"))
    if packagetype == "bdist_wheel" and not set(form.pyversion.split(".")) & {*tag.split("."), "any"}:
        raise Invalid(f"the form says pyversion {form.pyversion[:40]!a}, the file {release.filename} says {tag}")


def _cleaned(fields: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    """Values without NUL and outer blanks; empty ones and ``UNKNOWN`` (how old tools write "nothing") are left out."""
    cleaned: dict[str, tuple[str, ...]] = {}
    for field, raw in fields.items():
        name = _SPELLINGS.get(field, field)
        values = tuple(value.replace("\0", "").strip() for value in raw)
        if kept := tuple(value for value in values if value not in ("", "UNKNOWN")):
            cleaned[name] = tuple(dict.fromkeys((*cleaned.get(name, ()), *kept)))
    return cleaned


def _check_action(cleaned: Mapping[str, tuple[str, ...]]) -> None:
    action = _one(cleaned, ":action")
    if action in _OBSOLETE_ACTIONS:
        raise Gone(f"the action {action} is not served any more; publish files with file_upload")
    if action != "file_upload":
        raise Invalid(f"the form field :action must be file_upload, not {action[:40]!a}")
    if _one(cleaned, "protocol_version") != "1":
        raise Invalid("the form field protocol_version must be 1")


def _digests(cleaned: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    digests: dict[str, str] = {}
    for field, (algorithm, digits) in _DIGEST_FIELDS.items():
        said = _one(cleaned, field)
        if not said:
            continue
        digest = _md5_from_base64(said) if algorithm == "md5" and len(said) in (22, 24) else said.lower()
        if len(digest) != digits or not _HEX.match(digest):
            raise Invalid(f"the form field {field} is not {digits} hex digits")
        digests[algorithm] = digest
    return digests


def _md5_from_base64(said: str) -> str:
    """The documented form of ``md5_digest``, which no tool sends but a script may."""
    try:
        return base64.b64decode(said + "=" * (-len(said) % 4), altchars=b"-_", validate=True).hex()
    except (binascii.Error, ValueError) as error:
        raise Invalid("the form field md5_digest is neither hex nor base64") from error


def _one(cleaned: Mapping[str, tuple[str, ...]], field: str) -> str:
    return cleaned.get(field, ("",))[0]


def _needed(cleaned: Mapping[str, tuple[str, ...]], field: str) -> str:
    value = _one(cleaned, field)
    if not value:
        raise Invalid(f"the form field {field} is missing")
    return value
