"""Paths of a repository, taken apart: artifacts, classifiers, snapshots, checksums, metadata; and what is no path."""

import contextlib

import pytest

from registry.errors import Invalid
from registry.formats.maven import FORMAT, paths
from registry.formats.maven.coordinates import base_version, is_snapshot, snapshot_build

FILES = [
    # path, version, file kept as, classifier, extension
    ("com/acme/demo/1.0/demo-1.0.jar", "1.0", "1.0/demo-1.0.jar", "", "jar"),
    ("com/acme/demo/1.0/demo-1.0.pom", "1.0", "1.0/demo-1.0.pom", "", "pom"),
    ("com/acme/demo/1.0/demo-1.0-sources.jar", "1.0", "1.0/demo-1.0-sources.jar", "sources", "jar"),
    ("com/acme/demo/1.0/demo-1.0.tar.gz", "1.0", "1.0/demo-1.0.tar.gz", "", "tar.gz"),
    ("com/acme/demo/1.0/demo-1.0-bin.tar.gz", "1.0", "1.0/demo-1.0-bin.tar.gz", "bin", "tar.gz"),
    ("com/acme/demo/1.0/demo-1.0-src.tar.bz2", "1.0", "1.0/demo-1.0-src.tar.bz2", "src", "tar.bz2"),
    ("com/acme/demo/1.0/demo-1.0-jdk1.8.jar", "1.0", "1.0/demo-1.0-jdk1.8.jar", "jdk1.8", "jar"),
    ("com/acme/demo/1.0/demo-1.0-1.jar", "1.0", "1.0/demo-1.0-1.jar", "1", "jar"),
    ("com/acme/demo/1.0-1/demo-1.0-1.jar", "1.0-1", "1.0-1/demo-1.0-1.jar", "", "jar"),
    ("com/acme/demo/1.0/demo-1.0.jar.asc", "1.0", "1.0/demo-1.0.jar.asc", "", "jar.asc"),
    ("com/acme/demo/1.0/demo-1.0-sources.jar.asc", "1.0", "1.0/demo-1.0-sources.jar.asc", "sources", "jar.asc"),
    ("com/acme/demo/1.0/demo-1.0.module", "1.0", "1.0/demo-1.0.module", "", "module"),
    ("com/acme/demo/1.0/demo-1.0-cyclonedx.json", "1.0", "1.0/demo-1.0-cyclonedx.json", "cyclonedx", "json"),
    ("com/acme/demo/1.0/demo-1.0.jar.sigstore.json", "1.0", "1.0/demo-1.0.jar.sigstore.json", "", "jar.sigstore.json"),
    ("com/acme/a-b.c/2.0/a-b.c-2.0.war", "2.0", "2.0/a-b.c-2.0.war", "", "war"),
    ("com/acme/demo/1.0-alpha-1/demo-1.0-alpha-1.jar", "1.0-alpha-1", "1.0-alpha-1/demo-1.0-alpha-1.jar", "", "jar"),
    ("com/acme/demo/1.0+b.5/demo-1.0+b.5.jar", "1.0+b.5", "1.0+b.5/demo-1.0+b.5.jar", "", "jar"),
    ("junit/junit/4.13.2/junit-4.13.2.jar", "4.13.2", "4.13.2/junit-4.13.2.jar", "", "jar"),
    ("com/acme/demo/1.1-SNAPSHOT/demo-1.1-20261123.130050-3.jar", "1.1-20261123.130050-3",
     "1.1-SNAPSHOT/demo-1.1-20261123.130050-3.jar", "", "jar"),
    ("com/acme/demo/1.1-SNAPSHOT/demo-1.1-20261123.130050-3-sources.jar", "1.1-20261123.130050-3",
     "1.1-SNAPSHOT/demo-1.1-20261123.130050-3-sources.jar", "sources", "jar"),
    ("com/acme/demo/1.1-SNAPSHOT/demo-1.1-20261123.130050-3.jar.asc", "1.1-20261123.130050-3",
     "1.1-SNAPSHOT/demo-1.1-20261123.130050-3.jar.asc", "", "jar.asc"),
    ("com/acme/demo/1.1-SNAPSHOT/demo-1.1-SNAPSHOT.jar", "1.1-SNAPSHOT", "1.1-SNAPSHOT/demo-1.1-SNAPSHOT.jar", "", "jar"),
    ("com/acme/demo/1-a-SNAPSHOT/demo-1-a-20261123.130050-12.pom", "1-a-20261123.130050-12",
     "1-a-SNAPSHOT/demo-1-a-20261123.130050-12.pom", "", "pom"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "version", "filename", "classifier", "extension"), FILES, ids=[row[0] for row in FILES]
)
@pytest.mark.parametrize("checksum", [None, *paths.CHECKSUMS])
def test_files(path: str, version: str, filename: str, classifier: str, extension: str, checksum: str | None):
    place = paths.parse(path if checksum is None else f"{path}.{checksum}")
    assert isinstance(place, paths.FilePath)
    found = (place.version, place.filename, place.classifier, place.extension, place.checksum)
    assert found == (version, filename, classifier, extension, checksum)
    assert f"{paths.artifact_folder(place.key)}/{place.filename}" == path
    assert place.folder == base_version(version)
    location = FORMAT.locate(place.key, place.filename)
    assert location is not None
    assert (location.version, location.path, location.digest_path) == (version, path, f"{path}.sha1")


def test_metadata_at_three_levels():
    artifact = paths.parse("com/acme/demo/maven-metadata.xml")
    assert isinstance(artifact, paths.MetadataPath)
    assert artifact.key == FORMAT.key("com.acme:demo")
    assert artifact.group == "com.acme.demo"
    group = paths.parse("acme/maven-metadata.xml.sha1")
    assert group == paths.MetadataPath(None, "acme", "sha1")
    dotted = paths.parse("com/acme/de.mo/maven-metadata.xml")
    assert dotted == paths.MetadataPath(FORMAT.key("com.acme:de.mo"), "", None)
    snapshot = paths.parse("com/acme/demo/1.1-SNAPSHOT/maven-metadata.xml.md5")
    assert snapshot == paths.SnapshotPath(FORMAT.key("com.acme:demo"), "1.1-SNAPSHOT", "md5")


def test_documents_of_the_repository():
    assert paths.parse(".meta/prefixes.txt") == paths.ServicePath(paths.PREFIXES, None)
    assert paths.parse("archetype-catalog.xml.sha1") == paths.ServicePath(paths.ARCHETYPES, "sha1")


NO_PATHS = [
    "",
    "/",
    "com",
    "com/acme/",
    "com/acme/demo",
    "com/acme/demo/1.0/",
    "com/acme/demo/1.0/demo",
    "com/acme/demo/1.0/demo-1.0",
    "com/acme/demo/1.0/demo-1.0.",
    "com/acme/demo/1.0/demo-1.0-.jar",
    "com/acme/demo/1.0/demo-1.0-sources",
    "com/acme/demo/1.0/demo-1.0x.jar",
    "com/acme/demo/1.0/demo-1.1.jar",
    "com/acme/demo/1.0/other-1.0.jar",
    "com/acme/demo/1.0/index.html",
    "com/acme/demo/1.0/demo-1.0.jar.sha1.sha1",
    "com/acme/demo/1.0/demo-1.0.jar;x",
    "com/acme/demo/1.0/demo-1.0.jar?x",
    "com/acme/demo/1.0/demo-1.0.jar#x",
    "com/acme/demo/1.0/demo-1.0.jar\n",
    "com/acme/demo/1.0/demo-1.0 .jar",
    "com/acme/demo/1.0/demo-1.0.j\u0430r",
    "com.acme/demo/1.0/demo-1.0.jar",
    "com//demo/1.0/demo-1.0.jar",
    "com/../demo/1.0/demo-1.0.jar",
    "com/acme/demo/../demo-...jar",
    "com/acme/demo/1.1-20261123.130050-3/demo-1.1-20261123.130050-3.jar",
    "com/acme/demo/1.1-SNAPSHOT/demo-1.1-20261123-3.jar",
    "com/acme/demo/1.1-SNAPSHOT/demo-1.2-20261123.130050-3.jar",
    "com/acme/demo/1.1-SNAPSHOT/demo-1.1-20261123.130050-3",
    "com/acme/demo/1.0:/demo-1.0:.jar",
    "com/acme/demo/[1,2)/demo-[1,2).jar",
    "maven-metadata.xml",
    "a.b/maven-metadata.xml",
    ".index/nexus-maven-repository-index.properties",
    ".meta/other.txt",
    "x" * 2000,
    "a/" * 500 + "b/1/b-1.jar",
]


@pytest.mark.parametrize("path", NO_PATHS, ids=lambda path: ascii(path)[:60])
def test_what_is_no_path(path: str):
    """A2."""
    with pytest.raises(Invalid):
        paths.parse(path)


def test_a_version_s_folder():
    wanted = paths.VersionPath(FORMAT.key("com.acme:demo"), "1.0")
    assert paths.parse_version("com/acme/demo/1.0/") == paths.parse_version("com/acme/demo/1.0") == wanted
    for path in ("", "demo/1.0", "com/acme/demo/1.0/demo-1.0.jar/..", "com/acme/demo/1,0/"):
        with pytest.raises(Invalid):
            paths.parse_version(path)


def test_builds_of_snapshots():
    build = snapshot_build("1.1-20261123.130050-3")
    assert build == ("1.1-SNAPSHOT", "20261123.130050", 3)
    assert snapshot_build("1.1-SNAPSHOT") is snapshot_build("1.1") is None
    assert [is_snapshot(version) for version in ("1.1-SNAPSHOT", "1.1-20261123.130050-3", "1.1", "SNAPSHOT")] == [
        True, True, False, False,
    ]  # fmt: skip


def test_long_runs_of_anything_are_read_at_once():
    for tail in ("-x" * 400, ".tar" * 200, "-1" * 400, "." * 800, "-" * 800, "-20261123.130050-1" * 40):
        for path in (f"a/b/1/b-1{tail}", f"a/b/1-SNAPSHOT/b-1{tail}!"):
            with contextlib.suppress(Invalid):
                paths.parse(path)
