"""Reading a file that is to be published: POMs for what they say, jars for whether they are plugins."""

from __future__ import annotations

import re
import zipfile
import zlib
from struct import Struct
from typing import Any, BinaryIO

from registry.format import Release
from registry.formats.maven.coordinates import base_version
from registry.formats.maven.paths import FilePath
from registry.formats.maven.pom import DESCRIPTION_TYPE, check_pom, read_pom
from registry.formats.maven.xml_reader import BadXml, read_texts

DESCRIPTOR = "META-INF/maven/plugin.xml"
PLUGIN_PREFIX = "plugin_prefix"
"""The word in a file's ``extra`` that makes it one of a plugin."""

_DESCRIPTOR_LIMIT_BYTES = 4 * 1024 * 1024
_DIRECTORY_LIMIT_BYTES = 8 * 1024 * 1024
_TAIL_BYTES = 66 * 1024  # the end record and the longest comment
_END = Struct("<4s4H2LH")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")
_NOT_READABLE = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, EOFError, OSError)


def inspect(place: FilePath, body: BinaryIO) -> Release:
    """What is stored about the file at ``place``. ``body`` is seekable.

    Raises Invalid for a POM that cannot be read, or that is another artifact's than its path says: rights and names are
    decided by the path, and clients believe the POM.
    """
    metadata: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    summary = description = ""
    if place.extension == "pom" and not place.classifier:
        pom = read_pom(body)
        check_pom(pom, place.key.namespace, place.key.name, base_version(place.version))
        metadata, summary, description = pom.metadata, pom.summary, pom.description
        if pom.packaging == "maven-plugin":
            prefix = metadata.get("goal_prefix") or conventional_prefix(place.key.name)
            extra = {PLUGIN_PREFIX: prefix, "plugin_name": metadata.get("title", "")} if _PREFIX.match(prefix) else {}
    elif place.extension == "jar" and not place.classifier:
        extra = _plugin(body)
    return Release(
        name=place.key.name,
        display_name=f"{place.key.namespace}:{place.key.name}",
        version=place.version,
        display_version=place.version,
        filename=place.filename,
        summary=summary,
        metadata=metadata,
        extra=extra,
        metadata_document=None,
        namespace=place.key.namespace,
        description=description,
        description_type=DESCRIPTION_TYPE,
    )


def conventional_prefix(artifact: str) -> str:
    """The prefix that Maven gives a plugin which names none (``PluginDescriptor.getGoalPrefixFromArtifactId``)."""
    if artifact == "maven-plugin-plugin":
        return "plugin"
    return re.sub(r"-?plugin-?", "", re.sub(r"-?maven-?", "", artifact))


def _plugin(body: BinaryIO) -> dict[str, Any]:
    """What a plugin's jar says of its prefix; nothing for every other file, also for one that is no jar at all."""
    try:
        if not _is_small_zip(body):
            return {}
        body.seek(0)
        with zipfile.ZipFile(body) as archive:
            member = archive.getinfo(DESCRIPTOR)
            if member.file_size > _DESCRIPTOR_LIMIT_BYTES or member.compress_type not in (
                zipfile.ZIP_STORED,
                zipfile.ZIP_DEFLATED,
            ):
                return {}
            with archive.open(member) as stream:
                text = stream.read(_DESCRIPTOR_LIMIT_BYTES + 1)
        wanted = {("plugin", "goalPrefix"), ("plugin", "name")}
        found = dict(read_texts(text, wanted, limit_bytes=_DESCRIPTOR_LIMIT_BYTES))
    except (KeyError, BadXml, *_NOT_READABLE):
        return {}
    prefix = found.get(("plugin", "goalPrefix"), "")
    if not _PREFIX.match(prefix):
        return {}
    return {PLUGIN_PREFIX: prefix, "plugin_name": found.get(("plugin", "name"), "")[:500]}


def _is_small_zip(body: BinaryIO) -> bool:
    """Whether the list of members is one that may be read into memory; no plugin's comes near the limit."""
    size = body.seek(0, 2)
    body.seek(max(0, size - _TAIL_BYTES))
    tail = body.read(_TAIL_BYTES)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size or b"PK\x06\x07" in tail:
        return False
    return bool(_END.unpack_from(tail, at)[5] <= _DIRECTORY_LIMIT_BYTES)
