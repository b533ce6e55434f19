"""A version's manifest: from the ``package.json`` of its archive to what indexes and pages show.

Nothing of it comes from the document that a client sends beside the archive ("manifest confusion"): what installers
read in the index is what is in the tarball.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.json_text import decode, encode, parse

Json = dict[str, Any]

# The fields of an abbreviated version (registry/docs/responses/package-metadata.md of npm).
_ABBREVIATED = (
    "name",
    "version",
    "dependencies",
    "optionalDependencies",
    "devDependencies",
    "bundleDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "acceptDependencies",
    "bin",
    "directories",
    "engines",
    "os",
    "cpu",
    "libc",
    "funding",
    "_hasShrinkwrap",
)
# What an index adds to a manifest, or serves elsewhere; an author's words there would be taken for the index's.
_NOT_THE_AUTHORS = frozenset({"dist", "deprecated", "readme", "readmeFilename", "time", "hasInstallScript"})
DEPENDENCY_FIELDS = ("dependencies", "optionalDependencies", "peerDependencies")
_INSTALL_SCRIPTS = ("preinstall", "install", "postinstall")
_LONGEST_LIST = 1000


def to_text(value: Any) -> str:
    """Compact ASCII JSON: one byte for each character in memory, whatever is in it. Raises ValueError for NaN."""
    return encode(value)


def from_text(text: str) -> Json:
    """What ``to_text`` wrote of an object."""
    value = decode(text)
    return value if isinstance(value, dict) else {}


def read_package_json(raw: bytes) -> Json:
    """The document in an archive. Raises Invalid; names and versions are the caller's to check."""
    value = parse(raw.removeprefix(b"\xef\xbb\xbf"))
    return value if isinstance(value, dict) else {}


def published(package: Json, *, name: str, version: str, has_gyp: bool, has_shrinkwrap: bool) -> Json:
    """The manifest to list, normalised where npm's own publishing normalises."""
    manifest = {key: value for key, value in package.items() if not key.startswith("_") and key not in _NOT_THE_AUTHORS}
    manifest.update(name=name, version=version, _id=f"{name}@{version}")
    binaries = manifest.get("bin")
    if isinstance(binaries, str):
        manifest["bin"] = {name.rpartition("/")[2]: binaries}
    if "bundledDependencies" in manifest:
        manifest.setdefault("bundleDependencies", manifest.pop("bundledDependencies"))
    scripts = manifest.get("scripts")
    if has_gyp and not any(_mapping(scripts).get(word) for word in ("preinstall", "install")):
        # What npm runs in such a package all the same; here clients that only look at scripts see it as well.
        manifest["scripts"] = {**_mapping(scripts), "install": "node-gyp rebuild"}
        manifest["gypfile"] = True
    if has_shrinkwrap:
        manifest["_hasShrinkwrap"] = True
    return manifest


def abbreviated(manifest: Mapping[str, Any]) -> Json:
    """What installing needs of a manifest; ``dist`` and ``deprecated`` are the caller's to add."""
    short = {key: manifest[key] for key in _ABBREVIATED if key in manifest}
    scripts = _mapping(manifest.get("scripts"))
    if manifest.get("hasInstallScript") or manifest.get("gypfile") or any(scripts.get(x) for x in _INSTALL_SCRIPTS):
        short["hasInstallScript"] = True
    return short


def differing_fields(package: Mapping[str, Any], sent: Mapping[str, Any]) -> list[str]:
    """The fields that decide what is installed and in which the archive and the document beside it disagree."""
    return [field for field in DEPENDENCY_FIELDS if _mapping(package.get(field)) != _mapping(sent.get(field))]


def page_metadata(manifest: Mapping[str, Any], readme_filename: str) -> Json:
    """What pages show of a version, in the words that all formats share (``registry.pages.facts``)."""
    found: Json = {
        "summary": text(manifest.get("description")),
        "readme_filename": readme_filename,
        "license": _license(manifest),
        "author": _person(manifest.get("author")),
        "keywords": _strings(manifest.get("keywords")),
        "home_page": text(manifest.get("homepage")),
        "project_urls": _urls(manifest),
        "requires_engines": [f"{name} {wanted}" for name, wanted in _mapping(manifest.get("engines")).items()],
        "requires_dist": [
            f"{name} {wanted}{note}"
            for field, note in (
                ("dependencies", ""),
                ("peerDependencies", " (peer)"),
                ("optionalDependencies", " (optional)"),
            )
            for name, wanted in _mapping(manifest.get(field)).items()
        ][:_LONGEST_LIST],
    }
    return {key: value for key, value in found.items() if value}


def readme_type(filename: str) -> str:
    """The media type of a readme, by its name; npm takes one without an ending for Markdown."""
    folded = filename.lower()
    return "text/markdown" if folded == "readme" or folded.endswith((".md", ".markdown")) else "text/plain"


def text(value: object) -> str:
    """A string that databases can hold; empty for anything else."""
    return clean(value) if isinstance(value, str) else ""


def clean(value: str) -> str:
    """``value`` without NUL."""
    return value.replace("\0", "")


def repository_url(manifest: Mapping[str, Any]) -> str:
    """Where the sources are, as a web address; empty when that cannot be said."""
    repository = manifest.get("repository")
    url = text(repository.get("url") if isinstance(repository, dict) else repository)
    url = url.removeprefix("git+").replace("git://", "https://", 1).removesuffix(".git")
    return url if url.startswith(("https://", "http://")) else ""


def _urls(manifest: Mapping[str, Any]) -> dict[str, str]:
    bugs = manifest.get("bugs")
    found = {
        "Repository": repository_url(manifest),
        "Issues": text(bugs.get("url") if isinstance(bugs, dict) else bugs),
    }
    return {label: url for label, url in found.items() if url}


def _license(manifest: Mapping[str, Any]) -> str:
    said = manifest.get("license")
    return text(said.get("type") if isinstance(said, dict) else said)


def _person(value: object) -> str:
    if isinstance(value, dict):
        name, email = text(value.get("name")), text(value.get("email"))
        return f"{name} <{email}>" if email else name
    return text(value)


def _strings(value: object) -> list[str]:
    return (
        [clean(entry) for entry in value[:_LONGEST_LIST] if isinstance(entry, str)] if isinstance(value, list) else []
    )


def _mapping(value: object) -> dict[str, str]:
    """The string entries of an object, without NUL."""
    if not isinstance(value, dict):
        return {}
    return {clean(key): clean(entry) for key, entry in value.items() if isinstance(entry, str)}
