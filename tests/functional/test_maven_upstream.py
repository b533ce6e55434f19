"""What comes through an external connection: verified, kept, listed together with ours, and never in our place."""

from collections.abc import Iterator
from xml.etree import ElementTree as ET

import pytest

from registry.formats.maven.metadata import SnapshotFile, render_snapshot
from tests.fakes.upstream import Fault, FaultyUpstream
from tests.harness.maven import Repository, digest, jar, metadata, pom
from tests.harness.server import Server

XML = "text/xml"


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def proxying(tmp_path_factory: pytest.TempPathFactory, upstream: FaultyUpstream) -> Iterator[Server]:
    environment = {"ENTREPOT_UPSTREAM_URLS": f"maven={upstream.url}/m2/"}
    running = Server(tmp_path_factory.mktemp("proxy") / "data", with_worker=False, environment=environment).start()
    yield running
    assert running.fsck() == ""
    running.kill()


@pytest.fixture(scope="module")
def dev(proxying: Server) -> Repository:
    return Repository(proxying, proxying.token("admin", "read", "publish"))


def offer(upstream: FaultyUpstream, artifact: str, version: str, *, group: str = "org.far", **files: bytes) -> None:
    """An artifact of the upstream: files by extension, each with its checksum, and metadata with that version."""
    folder = f"/m2/{group.replace('.', '/')}/{artifact}"
    contents = {"pom": pom(artifact, version, group=group).encode(), "jar": jar(), **files}
    for extension, body in contents.items():
        path = f"{folder}/{version}/{artifact}-{version}.{extension}"
        upstream.serve(path, body)
        upstream.serve(f"{path}.sha1", digest(body).encode())
    upstream.serve(f"{folder}/maven-metadata.xml", metadata(version).encode(), content_type=XML)


def asked(upstream: FaultyUpstream, part: str) -> int:
    return len([seen for seen in upstream.requests if part in seen.path])


def test_a_file_is_fetched_once_and_kept_here_and_where_the_connection_is(
    dev: Repository, proxying: Server, upstream: FaultyUpstream
):
    offer(upstream, "kept", "1.0")
    path = "org/far/kept/1.0/kept-1.0.jar"
    # mvn says so on each request; it is no wish to go outside.
    first, second = (dev.get(path, **{"Cache-Control": "no-cache", "Pragma": "no-cache"}) for _ in range(2))
    assert first.content == second.content == jar()
    assert second.headers["X-Checksum-Sha1"] == digest(jar())
    public = Repository(proxying, dev.auth[1] if dev.auth else None, "public")
    assert public.get(path).content == jar()
    assert (asked(upstream, "kept-1.0.jar.sha1"), asked(upstream, "kept-1.0.jar")) == (1, 2)
    # All checksums are ours, whatever the upstream has.
    for algorithm in ("md5", "sha256", "sha512"):
        assert dev.get(f"{path}.{algorithm}").text == digest(jar(), algorithm)
    staging = Repository(proxying, dev.auth[1] if dev.auth else None, "staging")
    assert staging.get(path).status_code == 404


def test_a_checksum_may_be_asked_before_the_file(dev: Repository, upstream: FaultyUpstream):
    offer(upstream, "sumfirst", "1.0")
    path = "org/far/sumfirst/1.0/sumfirst-1.0.pom"
    body = pom("sumfirst", "1.0", group="org.far").encode()
    assert dev.get(f"{path}.sha1").text == digest(body)
    assert asked(upstream, "sumfirst-1.0.pom") == 1
    assert dev.get(f"{path}.md5").text == digest(body, "md5")


def test_a_file_without_a_checksum_is_served_all_the_same(dev: Repository, upstream: FaultyUpstream):
    upstream.serve("/m2/org/far/bare/1.0/bare-1.0.jar.asc", b"-----BEGIN")
    path = "org/far/bare/1.0/bare-1.0.jar.asc"
    assert dev.get(path).content == b"-----BEGIN"
    assert dev.get(f"{path}.sha1").text == digest(b"-----BEGIN")
    before = len(upstream.requests)
    assert dev.get(path).status_code == 200
    assert len(upstream.requests) == before


def test_what_is_not_there_is_asked_for_once_a_minute(dev: Repository, upstream: FaultyUpstream):
    for _ in range(3):
        assert dev.get("org/far/absent/1.0/absent-1.0.jar").status_code == 404
        assert dev.get("org/far/absent/maven-metadata.xml").status_code == 404
    # The file itself; its checksum at the same time, if this upstream is known to send none with its files.
    assert upstream.count("/m2/org/far/absent/1.0/absent-1.0.jar") == 1
    assert asked(upstream, "absent-1.0.jar.sha1") <= 1
    assert asked(upstream, "absent/maven-metadata.xml") == 1


def test_wrong_bytes_never_reach_a_client(dev: Repository, upstream: FaultyUpstream):
    offer(upstream, "altered", "1.0")
    upstream.serve("/m2/org/far/altered/1.0/altered-1.0.jar.sha1", digest(b"else").encode())
    path = "org/far/altered/1.0/altered-1.0.jar"
    assert dev.get(path).status_code == 502
    assert dev.get(path).status_code == 502


@pytest.mark.parametrize("fault", [Fault.LOGIN_PAGE, Fault.RESET_HALF, Fault.NONSENSE])
def test_an_outage_is_no_absence(dev: Repository, upstream: FaultyUpstream, fault: Fault):
    name = f"sick-{fault.name.lower().replace('_', '-')}"
    upstream.serve(f"/m2/org/far/{name}/1.0/{name}-1.0.jar.sha1", digest(jar()).encode())
    upstream.serve(f"/m2/org/far/{name}/1.0/{name}-1.0.jar", jar(), fault=fault)
    upstream.serve(f"/m2/org/far/{name}/maven-metadata.xml", metadata("1.0").encode(), content_type=XML, fault=fault)
    with_body = dev.get(f"org/far/{name}/maven-metadata.xml")
    assert with_body.status_code == 502
    assert dev.get(f"org/far/{name}/1.0/{name}-1.0.jar").status_code in (502, 503)


def test_a_page_for_people_is_no_checksum_and_no_file(dev: Repository, upstream: FaultyUpstream):
    page = b"<!DOCTYPE html><html><body>404, but friendly</body></html>"
    for suffix in ("pom", "pom.sha1"):
        upstream.serve(f"/m2/org/far/friendly/1.0/friendly-1.0.{suffix}", page, content_type="text/html")
    upstream.serve("/m2/org/far/friendly/maven-metadata.xml", page, content_type="text/html")
    assert dev.get("org/far/friendly/1.0/friendly-1.0.pom").status_code == 502
    assert dev.get("org/far/friendly/maven-metadata.xml").status_code == 502


def test_metadata_is_the_union_of_what_was_kept_and_what_is_listed(dev: Repository, upstream: FaultyUpstream):
    offer(upstream, "union", "1.0")
    assert dev.get("org/far/union/1.0/union-1.0.jar").status_code == 200
    # The upstream loses a version and gains two.
    upstream.serve("/m2/org/far/union/maven-metadata.xml", metadata("1.10", "1.2").encode(), content_type=XML)
    assert dev.versions("union", group="org.far") == ["1.0", "1.2", "1.10"]
    document = dev.get("org/far/union/maven-metadata.xml")
    assert dev.get("org/far/union/maven-metadata.xml.sha1").text == digest(document.content)


def test_a_name_published_here_is_never_taken_from_outside(dev: Repository, proxying: Server, upstream: FaultyUpstream):
    """C9."""
    offer(upstream, "corp-lib", "99.0", group="com.acme")
    dev.send("corp-lib", "1.0")
    # From the first file on, before the version is finished.
    assert dev.get("com/acme/corp-lib/99.0/corp-lib-99.0.jar").status_code == 404
    assert dev.versions("corp-lib") == []
    dev.finish("corp-lib", "1.0")
    assert dev.versions("corp-lib") == ["1.0"]
    assert dev.get("com/acme/corp-lib/99.0/corp-lib-99.0.jar").status_code == 404
    assert asked(upstream, "corp-lib") == 0  # nor does the outside hear of it
    public = Repository(proxying, dev.auth[1] if dev.auth else None, "public")
    assert public.versions("corp-lib") == ["99.0"]


def test_a_name_that_came_from_outside_cannot_be_published(dev: Repository, upstream: FaultyUpstream):
    offer(upstream, "theirs", "1.0")
    dev.get("org/far/theirs/1.0/theirs-1.0.jar")
    refused = dev.put("org/far/theirs/2.0/theirs-2.0.jar", b"x")
    assert refused.status_code == 403
    assert "upstream" in refused.reason


def test_snapshots_from_outside(dev: Repository, upstream: FaultyUpstream):
    from registry.formats.maven import FORMAT
    from registry.formats.maven.metadata import Metadata

    build = "1-20260101.000000-5"
    file = SnapshotFile("", "jar", build, "20260101000000")
    found = Metadata((), "20260101000000", "20260101.000000", 5, (file,))
    body = render_snapshot(FORMAT.key("org.far:snap"), "1-SNAPSHOT", found)
    upstream.serve("/m2/org/far/snap/1-SNAPSHOT/maven-metadata.xml", body, content_type=XML)
    upstream.serve(f"/m2/org/far/snap/1-SNAPSHOT/snap-{build}.jar", b"built")
    upstream.serve(f"/m2/org/far/snap/1-SNAPSHOT/snap-{build}.jar.sha1", digest(b"built").encode())
    root = ET.fromstring(dev.get("org/far/snap/1-SNAPSHOT/maven-metadata.xml").content)
    assert root.findtext("versioning/snapshot/buildNumber") == "5"
    assert dev.get(f"org/far/snap/1-SNAPSHOT/snap-{build}.jar").content == b"built"


def test_plugins_of_a_group_outside_and_ours(dev: Repository, upstream: FaultyUpstream):
    listed = "".join(
        f"<plugin><name>{prefix}</name><prefix>{prefix}</prefix><artifactId>{artifact}</artifactId></plugin>"
        for prefix, artifact in (("tidy", "their-tidy"), ("wash", "wash-maven-plugin"), ("dry", "dry-maven-plugin"))
    )
    upstream.serve(
        "/m2/org/mixed/maven-metadata.xml",
        f"<metadata><plugins>{listed}</plugins></metadata>".encode(),
        content_type=XML,
    )
    for artifact in ("tidy-maven-plugin", "dry-maven-plugin"):
        packaging = "maven-plugin" if artifact.startswith("tidy") else "jar"
        dev.put(f"org/mixed/{artifact}/1/{artifact}-1.pom", pom(artifact, "1", group="org.mixed", packaging=packaging))
        dev.finish(artifact, "1", group="org.mixed")
    root = ET.fromstring(dev.get("org/mixed/maven-metadata.xml").content)
    found = {plugin.findtext("prefix"): plugin.findtext("artifactId") for plugin in root.iter("plugin")}
    # Ours wins its prefix, and one whose artifact is ours does not count in the outside's list.
    assert found == {"tidy": "tidy-maven-plugin", "wash": "wash-maven-plugin"}


def test_hostile_metadata_of_an_upstream(dev: Repository, upstream: FaultyUpstream):
    """B4."""
    bomb = b'<!DOCTYPE m [<!ENTITY x SYSTEM "file:///etc/passwd">]><metadata><versioning><latest>&x;</latest></versioning></metadata>'
    upstream.serve("/m2/org/far/bomb/maven-metadata.xml", bomb, content_type=XML)
    answer = dev.get("org/far/bomb/maven-metadata.xml")
    assert answer.status_code == 502
    assert b"root:" not in answer.content


def test_prefixes_are_all_or_none(dev: Repository, proxying: Server, upstream: FaultyUpstream):
    dev.deploy("ours", "1.0", group="com.acme.deep.group")
    # The upstream has none: nobody knows what it has.
    assert dev.get(".meta/prefixes.txt").status_code == 404
    staging = Repository(proxying, dev.auth[1] if dev.auth else None, "staging")
    assert staging.get(".meta/prefixes.txt").status_code == 404  # nothing there at all


def test_prefixes_are_ours_and_the_upstream_s(tmp_path_factory: pytest.TempPathFactory, dev: Repository):
    with FaultyUpstream() as upstream:
        upstream.serve(
            "/.meta/prefixes.txt", b"## repository-prefixes/2.0\n/org/apache\n/junit\n", content_type="text/plain"
        )
        environment = {"ENTREPOT_UPSTREAM_URLS": f"maven={upstream.url}/"}
        server = Server(
            tmp_path_factory.mktemp("prefixes") / "data", with_worker=False, environment=environment
        ).start()
        try:
            ours = Repository(server, server.token("admin", "read", "publish"))
            ours.deploy("secret", "1.0", group="com.acme.secret")
            expected = "## repository-prefixes/2.0\n/com/acme\n/junit\n/org/apache\n"
            assert ours.get(".meta/prefixes.txt").text == expected
            assert ours.get(".meta/prefixes.txt.sha1").text == digest(expected.encode())
            # What is ours is no business of the outside.
            assert asked(upstream, "acme") == 0
            offer_after = ours.get("com/acme/secret/secret/maven-metadata.xml")
            assert offer_after.status_code == 200
            upstream.refuse()
            assert ours.get(".meta/prefixes.txt").text == expected  # from the last answer
        finally:
            server.kill()


def test_everything_known_is_served_when_the_upstream_is_away(dev: Repository, upstream: FaultyUpstream):
    offer(upstream, "durable", "1.0")
    paths = [
        "org/far/durable/1.0/durable-1.0.jar",
        "org/far/durable/1.0/durable-1.0.pom",
        "org/far/durable/maven-metadata.xml",
    ]
    bodies = [dev.get(path).content for path in paths]
    upstream.refuse()
    try:
        assert [dev.get(path).content for path in paths] == bodies
        for path in ("org/far/never/1.0/never-1.0.jar", "org/far/never/maven-metadata.xml"):
            answer = dev.get(path)
            assert answer.status_code == 502, path
            assert "Retry-After" in answer.headers
    finally:
        upstream.accept()
