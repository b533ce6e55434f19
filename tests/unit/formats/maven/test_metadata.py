"""The documents: read, merged, rendered the same every time; POMs, plugins and prefixes beside them."""

import io
import itertools
import random
import zipfile
from datetime import UTC, datetime, timedelta, timezone

import pytest

from registry.errors import Invalid
from registry.format import BadIndex
from registry.formats.maven import FORMAT, metadata, prefixes
from registry.formats.maven.inspection import conventional_prefix, inspect
from registry.formats.maven.metadata import Plugin
from registry.formats.maven.paths import FilePath, parse
from registry.formats.maven.xml_reader import BadXml
from tests.harness.maven import jar, pom

KEY = FORMAT.key("com.acme:demo")


def test_an_artifact_s_document():
    versions = ["1.10", "1.2", "2.0-SNAPSHOT", "1.2-rc1"]
    expected = """<?xml version="1.0" encoding="UTF-8"?>
<metadata>
  <groupId>com.acme</groupId>
  <artifactId>demo</artifactId>
  <versioning>
    <latest>2.0-SNAPSHOT</latest>
    <release>1.10</release>
    <versions>
      <version>1.2-rc1</version>
      <version>1.2</version>
      <version>1.10</version>
      <version>2.0-SNAPSHOT</version>
    </versions>
    <lastUpdated>20261123130050</lastUpdated>
  </versioning>
</metadata>
"""
    for order in itertools.permutations(versions):
        assert metadata.render_artifact(KEY, order, "20261123130050").decode() == expected
    read = metadata.read(expected.encode())
    assert (read.versions, read.last_updated) == (("1.2-rc1", "1.2", "1.10", "2.0-SNAPSHOT"), "20261123130050")
    assert read.named == ("1.10", "2.0-SNAPSHOT")


def test_snapshots_alone_have_no_release():
    assert b"<release>" not in metadata.render_artifact(KEY, ["1-SNAPSHOT"], "20261123130050")


def test_a_document_of_an_artifact_and_a_group_at_once():
    plugins = [Plugin("tidy", "tidy-maven-plugin", "Tidy <up> & go"), Plugin("a", "a-maven-plugin")]
    body = metadata.render_artifact(KEY, ["1"], "20261123130050", plugins)
    read = metadata.read(body)
    assert read.versions == ("1",)
    assert read.plugins == (Plugin("a", "a-maven-plugin", "a-maven-plugin"), plugins[0])
    assert metadata.render_artifact(KEY, ["1"], "20261123130050", reversed(plugins)) == body
    assert b"versioning" not in metadata.render_artifact(None, [], "", plugins)


def test_the_last_plugin_of_a_prefix_counts():
    body = metadata.render_artifact(None, [], "", [Plugin("x", "theirs"), Plugin("x", "ours")])
    assert [plugin.artifact for plugin in metadata.read(body).plugins] == ["ours"]


def test_a_snapshot_s_builds():
    files = [
        ("1.1-20261123.130050-2", "", "jar"),
        ("1.1-20261123.130050-2", "", "pom"),
        ("1.1-20261122.080000-1", "", "jar"),
        ("1.1-20261122.080000-1", "sources", "jar"),
        ("1.1-SNAPSHOT", "", "jar"),
    ]
    bodies = set()
    for seed in range(10):
        random.Random(seed).shuffle(files)
        found = metadata.own_builds(files)
        assert found is not None
        bodies.add(metadata.render_snapshot(KEY, "1.1-SNAPSHOT", found))
    (body,) = bodies
    read = metadata.read(body)
    assert (read.timestamp, read.build_number, read.last_updated) == ("20261123.130050", 2, "20261123130050")
    assert {(file.classifier, file.extension): file.value for file in read.files} == {
        ("", "jar"): "1.1-20261123.130050-2",
        ("", "pom"): "1.1-20261123.130050-2",
        ("sources", "jar"): "1.1-20261122.080000-1",
    }
    assert b'modelVersion="1.1.0"' in body
    assert metadata.own_builds([("1.1-SNAPSHOT", "", "jar")]) is None


def test_builds_of_several_repositories_are_one_list():
    ours = metadata.own_builds([("1-20260101.000000-7", "", "jar"), ("1-20260101.000000-7", "", "pom")])
    theirs = metadata.own_builds([("1-20260102.000000-1", "", "pom")])
    assert ours is not None
    assert theirs is not None
    merged = metadata.merge_snapshots([ours, theirs])
    assert merged == metadata.merge_snapshots([theirs, ours])
    assert merged is not None
    assert (merged.timestamp, merged.build_number) == ("20260102.000000", 1)
    assert {file.extension: file.value for file in merged.files} == {
        "jar": "1-20260101.000000-7",
        "pom": "1-20260102.000000-1",
    }
    # A snapshot of Maven 2 has no list of files.
    old = metadata.read(
        b"<metadata><versioning><snapshot><timestamp>20270101.000000</timestamp><buildNumber>3</buildNumber></snapshot>"
        b"</versioning></metadata>"
    )
    newest = metadata.merge_snapshots([ours, old])
    assert newest is not None
    assert (newest.timestamp, newest.build_number) == ("20270101.000000", 3)


def test_names_that_are_none_are_left_out():
    read = metadata.read(
        b"<metadata><versioning><versions><version>../1</version><version>1</version><version>1</version><version/></versions>"
        b"<lastUpdated>yesterday</lastUpdated><snapshot><buildNumber>x</buildNumber></snapshot></versioning>"
        b"<plugins><plugin><prefix>p</prefix><artifactId>a/b</artifactId></plugin></plugins></metadata>"
    )
    assert (read.versions, read.last_updated, read.build_number, read.plugins) == (("1",), "", 0, ())


def test_another_document_is_no_metadata():
    for body in (b"<html><body>Sign in</body></html>", b"<project/>", b"not xml"):
        with pytest.raises(BadXml):
            metadata.read(body)


def test_stamps_are_utc():
    moment = datetime(2026, 11, 23, 13, 0, 50, tzinfo=UTC)
    assert metadata.stamp(moment.astimezone(timezone(timedelta(hours=9)))) == "20261123130050"


def file(path: str) -> FilePath:
    place = parse(path)
    assert isinstance(place, FilePath)
    return place


def release(path: str, body: bytes | str):
    return inspect(file(path), io.BytesIO(body.encode() if isinstance(body, str) else body))


def test_what_a_pom_says():
    text = """<project xmlns="http://maven.apache.org/POM/4.0.0">
      <parent><groupId>com.acme</groupId><artifactId>parent</artifactId><version>1.0</version></parent>
      <artifactId>demo</artifactId><name>Demo</name><description>Does
        things.</description><url>https://demo.invalid/</url>
      <licenses><license><name>Apache-2.0</name></license></licenses>
      <developers><developer><name>Alice</name></developer><developer><name>Bob</name></developer></developers>
      <scm><url>https://git.invalid/demo</url></scm>
      <dependencies>
        <dependency><groupId>org.x</groupId><artifactId>y</artifactId><version>${y}</version></dependency>
        <dependency><groupId>junit</groupId><artifactId>junit</artifactId><version>4</version><scope>test</scope></dependency>
      </dependencies>
      <dependencyManagement><dependencies><dependency><groupId>no</groupId></dependency></dependencies></dependencyManagement>
    </project>"""
    found = release("com/acme/demo/1.0/demo-1.0.pom", text)
    assert found.summary == "Does things."
    assert found.description.startswith("Does\n")
    assert found.display_name == "com.acme:demo"
    assert found.metadata["license"] == ["Apache-2.0"]
    assert found.metadata["author"] == ["Alice", "Bob"]
    assert found.metadata["home_page"] == "https://demo.invalid/"
    assert found.metadata["requires_dist"] == ["org.x:y:${y}", "junit:junit:4 (test)"]


@pytest.mark.parametrize(
    ("path", "group", "artifact", "version"),
    [
        ("com/acme/demo/1.0/demo-1.0.pom", "com.other", "demo", "1.0"),
        ("com/acme/demo/1.0/demo-1.0.pom", "com.acme", "other", "1.0"),
        ("com/acme/demo/1.0/demo-1.0.pom", "com.acme", "demo", "2.0"),
        ("com/acme/demo/1.0/demo-1.0.pom", "com.acme", "", "1.0"),
        ("com/acme/demo/1.1-SNAPSHOT/demo-1.1-20261123.130050-3.pom", "com.acme", "demo", "1.1"),
    ],
)
def test_a_pom_of_another_artifact_is_refused(path: str, group: str, artifact: str, version: str):
    with pytest.raises(Invalid, match="but its path says"):
        release(path, pom(artifact, version, group=group))


def test_a_pom_with_expressions_is_taken():
    assert release("com/acme/demo/1.0/demo-1.0.pom", pom("demo", "${revision}")).version == "1.0"
    path = "com/acme/demo/1.1-SNAPSHOT/demo-1.1-20261123.130050-3.pom"
    assert release(path, pom("demo", "1.1-SNAPSHOT")).version == "1.1-20261123.130050-3"


def test_plugins_are_known_by_their_jar_or_their_pom():
    descriptor = "<plugin><name>Tidy</name><goalPrefix>tidy</goalPrefix><mojos/></plugin>"
    body = jar(**{"META-INF/maven/plugin.xml": descriptor})
    assert release("a/b/1/b-1.jar", body).extra == {"plugin_prefix": "tidy", "plugin_name": "Tidy"}
    assert release("a/b/1/b-1-tests.jar", body).extra == {}
    assert release("a/b/1/b-1.jar", jar()).extra == release("a/b/1/b-1.jar", b"no jar").extra == {}
    text = pom("tidy-maven-plugin", "1", group="a", packaging="maven-plugin")
    assert release("a/tidy-maven-plugin/1/tidy-maven-plugin-1.pom", text).extra["plugin_prefix"] == "tidy"
    configured = pom(
        "b", "1", group="a", packaging="maven-plugin",
        more="<build><plugins><plugin><configuration><goalPrefix>own</goalPrefix></configuration></plugin></plugins></build>",
    )  # fmt: skip
    assert release("a/b/1/b-1.pom", configured).extra["plugin_prefix"] == "own"


def test_prefixes_by_convention():
    names = ("maven-tidy-plugin", "tidy-maven-plugin", "maven-plugin-plugin", "tidy")
    assert [conventional_prefix(name) for name in names] == ["tidy", "tidy", "plugin", "tidy"]


def test_jars_that_lie_are_files_all_the_same():
    sound = jar(**{"META-INF/maven/plugin.xml": "<plugin><goalPrefix>x</goalPrefix></plugin>"})
    for position in range(0, len(sound), 3):
        broken = bytearray(sound)
        broken[position] ^= 0xFF
        release("a/b/1/b-1.jar", bytes(broken))
        release("a/b/1/b-1.jar", sound[:position])
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("META-INF/maven/plugin.xml", b"<plugin>" + b" " * 50_000_000 + b"</plugin>")
    assert release("a/b/1/b-1.jar", bomb.getvalue()).extra == {}


def test_prefixes():
    lines = prefixes.own_prefixes(["com.acme.tools", "com.acme", "junit", "org.x.y.z"])
    assert prefixes.render_prefixes(lines).decode() == "## repository-prefixes/2.0\n/com/acme\n/junit\n/org/x\n"
    read = prefixes.read_prefixes(b"## repository-prefixes/2.0\n# why\n/org/apache\ncom/foo/\n\n")
    assert read == {"/org/apache", "/com/foo"}
    assert prefixes.read_prefixes(b"## repository-prefixes/2.0\n@ unsupported\n") is None
    for body in (b"", b"<html>", b"/org/apache\n", b"\xff"):
        with pytest.raises(BadIndex):
            prefixes.read_prefixes(body)
