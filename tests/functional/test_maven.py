"""Deployments by plain requests against a running server: checksums, what is seen when, metadata, and many at once."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import requests

from tests.fakes.upstream import FaultyUpstream
from tests.harness import publishing
from tests.harness.maven import Repository, digest, jar, pom
from tests.harness.processes import wait_until
from tests.harness.server import Server

DEMO = "com/acme/demo"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests here: each uses artifacts of its own. Outside there is nothing."""
    with FaultyUpstream() as empty:
        environment = {"ENTREPOT_UPSTREAM_URLS": f"maven={empty.url}/", "ENTREPOT_STORAGE_FINISH_AFTER_SECONDS": "3600"}
        running = Server(tmp_path_factory.mktemp("maven") / "data", with_worker=False, environment=environment).start()
        yield running
        assert running.fsck() == ""
        running.kill()


@pytest.fixture(scope="module")
def publisher(shared: Server) -> Repository:
    return Repository(shared, shared.token("admin", "read", "publish"))


@pytest.fixture(scope="module")
def reader(shared: Server) -> Repository:
    return Repository(shared, shared.token("admin", "read"))


def folder(artifact: str, version: str = "1.0") -> str:
    return f"com/acme/{artifact}/{version}/{artifact}-{version}"


def test_a_release_is_seen_when_its_metadata_came(publisher: Repository, reader: Repository):
    publisher.send("whole", "1.0")
    assert (
        reader.get(folder("whole") + ".jar").status_code == reader.get(folder("whole") + ".jar.sha1").status_code == 404
    )
    assert reader.versions("whole") == publisher.versions("whole") == []
    assert publisher.get(folder("whole") + ".jar").status_code == 200  # a build that reads back what it sent
    assert publisher.finish("whole", "1.0").status_code == 201
    assert publisher.put("com/acme/whole/maven-metadata.xml.sha1", "of the client's document").status_code == 201
    assert reader.versions("whole") == ["1.0"]
    body = reader.get(folder("whole") + ".jar").content
    assert body == jar(**{"v.txt": "1.0"})
    document = reader.get("com/acme/whole/maven-metadata.xml").content
    for algorithm in ("md5", "sha1", "sha256", "sha512"):
        assert reader.get(f"{folder('whole')}.jar.{algorithm}").text == digest(body, algorithm)
        assert reader.get(f"com/acme/whole/maven-metadata.xml.{algorithm}").text == digest(document, algorithm)


def test_digests_are_in_the_head_of_answers(publisher: Repository):
    publisher.deploy("headed", "1.0")
    body = jar(**{"v.txt": "1.0"})
    for answer in (publisher.get(folder("headed") + ".jar"), publisher.head(folder("headed") + ".jar")):
        assert answer.headers["X-Checksum-Sha1"] == digest(body)
        assert answer.headers["X-Checksum-Md5"] == digest(body, "md5")
        assert answer.headers["X-Checksum-Sha256"] == digest(body, "sha256")
        assert answer.headers["Content-Length"] == str(len(body))
    document = publisher.get("com/acme/headed/maven-metadata.xml")
    assert document.headers["X-Checksum-Sha1"] == digest(document.content)
    again = publisher.get("com/acme/headed/maven-metadata.xml", **{"If-None-Match": document.headers["ETag"]})
    assert again.status_code == 304
    part = publisher.get(folder("headed") + ".jar", Range="bytes=-10")
    assert (part.status_code, part.content) == (206, body[-10:])


def test_a_checksum_may_come_before_its_file(publisher: Repository, reader: Repository):
    body = jar(a="1")
    assert publisher.put(folder("before") + ".jar.sha1", digest(body)).status_code == 201
    refused = publisher.put(folder("before") + ".jar", body + b"damaged")
    assert refused.status_code == 400
    assert "checksum" in refused.reason
    assert publisher.get(folder("before") + ".jar").status_code == 404
    assert publisher.put(folder("before") + ".jar", body).status_code == 201
    assert publisher.finish("before", "1.0").status_code == 201
    assert reader.get(folder("before") + ".jar").content == body


def test_a_version_is_not_finished_without_a_file_that_was_promised(publisher: Repository, reader: Repository):
    publisher.send("promised", "1.0")
    publisher.put(folder("promised") + "-sources.jar.sha1", digest(b"x"))
    refused = publisher.finish("promised", "1.0")
    assert refused.status_code == 409
    assert "promised-1.0-sources.jar" in refused.reason
    assert reader.versions("promised") == []
    assert publisher.put(folder("promised") + "-sources.jar", b"x").status_code == 201
    assert publisher.finish("promised", "1.0").status_code == 201


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
def test_a_wrong_checksum_takes_the_file_back(publisher: Repository, reader: Repository, algorithm: str):
    name = f"wrong-{algorithm}"
    publisher.send(name, "1.0")
    refused = publisher.put(f"{folder(name)}.jar.{algorithm}", digest(b"else", algorithm))
    assert refused.status_code == 400
    assert "send the file again" in refused.reason
    assert publisher.finish(name, "1.0").status_code == 409  # it stays Unfinished
    assert reader.versions(name) == []
    publisher.deploy(name, "1.0")  # the whole deployment again
    assert reader.versions(name) == ["1.0"]
    # Of a published file a wrong checksum is wrong, and changes nothing.
    assert publisher.put(f"{folder(name)}.jar.{algorithm}", digest(b"else", algorithm)).status_code == 400
    assert reader.get(f"{folder(name)}.jar").status_code == 200


def test_what_is_no_checksum_is_refused(publisher: Repository):
    for body in (b"", b"x" * 40, b"a" * 39, b"\xff" * 40, b"a" * 5000):
        assert publisher.put(folder("nochecksum") + ".jar.sha1", body).status_code in (400, 413)
    body = f"{digest(b'x').upper()}  demo-1.0.jar\n"
    assert publisher.put(folder("nochecksum") + ".jar.sha1", body).status_code == 201


def test_a_published_file_never_changes(publisher: Repository, reader: Repository):
    publisher.deploy("fixed", "1.0")
    publisher.deploy("fixed", "1.0")  # the same bytes: a deployment that is repeated
    for headers in ({}, {"X-Checksum-Sha1": digest(b"other")}):
        refused = publisher.put(folder("fixed") + ".jar", b"other", **headers)
        assert refused.status_code == 409
        assert "never changes" in refused.reason
    assert reader.get(folder("fixed") + ".jar").content == jar(**{"v.txt": "1.0"})
    # Further files of the version may come.
    assert publisher.put(folder("fixed") + ".jar.asc", b"-----BEGIN PGP SIGNATURE-----").status_code == 201
    assert reader.get(folder("fixed") + ".jar.asc").status_code == 200
    assert reader.get(folder("fixed") + ".jar.asc.sha1").text == digest(b"-----BEGIN PGP SIGNATURE-----")


def test_32_deployments_at_once_are_all_listed(shared: Server, publisher: Repository, reader: Repository):
    def one(number: int) -> None:
        Repository(shared, publisher.auth[1] if publisher.auth else None).deploy("crowd", f"1.{number}")

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(one, range(32)))
    assert reader.versions("crowd") == [f"1.{number}" for number in range(32)]
    answers = [reader.get("com/acme/crowd/maven-metadata.xml") for _ in range(8)]
    assert len({answer.content for answer in answers}) == 1  # by both processes
    root = ET.fromstring(answers[0].content)
    assert [root.findtext(f"versioning/{name}") for name in ("latest", "release")] == ["1.31", "1.31"]


def test_one_of_many_writers_of_a_file_wins(shared: Server, publisher: Repository):
    def one(number: int) -> int:
        mine = Repository(shared, publisher.auth[1] if publisher.auth else None)
        return mine.put(folder("contested") + ".jar", f"bytes {number}".encode()).status_code

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(one, range(16)))
    assert sorted(statuses) == [201] + [409] * 15
    kept = publisher.get(folder("contested") + ".jar").content.decode()
    assert statuses[int(kept.split()[1])] == 201


def snapshot(repository: Repository, artifact: str, build: str, *, is_listed: bool = True) -> None:
    base = f"com/acme/{artifact}/1.1-SNAPSHOT"
    for extension, body in (("jar", build.encode()), ("pom", pom(artifact, "1.1-SNAPSHOT").encode())):
        path = f"{base}/{artifact}-1.1-{build}.{extension}"
        assert repository.put(path, body).status_code == 201
        assert repository.put(f"{path}.sha1", digest(body)).status_code == 201
    if is_listed:
        timestamp, _, number = build.rpartition("-")
        text = (
            f"<metadata><versioning><snapshot><timestamp>{timestamp}</timestamp><buildNumber>{number}</buildNumber></snapshot>"
            "</versioning></metadata>"
        )
        assert repository.put(f"{base}/maven-metadata.xml", text).status_code == 201
        assert repository.finish(artifact, "1.1-SNAPSHOT").status_code == 201


def test_builds_of_a_snapshot(shared: Server, publisher: Repository, reader: Repository):
    snapshot(publisher, "snap", "20261101.100000-1")
    snapshot(publisher, "snap", "20261102.100000-2")
    snapshot(publisher, "snap", "20261103.100000-3", is_listed=False)  # still on its way
    assert reader.versions("snap") == ["1.1-SNAPSHOT"]
    path = "com/acme/snap/1.1-SNAPSHOT"
    document = ET.fromstring(reader.get(f"{path}/maven-metadata.xml").content)
    assert document.findtext("versioning/snapshot/timestamp") == "20261102.100000"
    assert document.findtext("versioning/snapshot/buildNumber") == "2"
    values = {element.text for element in document.iter("value")}
    assert values == {"1.1-20261102.100000-2"}
    # Older builds stay, and the one that is not listed is not to be had.
    assert reader.get(f"{path}/snap-1.1-20261101.100000-1.jar").text == "20261101.100000-1"
    assert reader.get(f"{path}/snap-1.1-20261103.100000-3.jar").status_code == 404
    assert publisher.get(f"{path}/snap-1.1-20261103.100000-3.jar").status_code == 200
    # Each build is a version of its own: of files that belong together.
    shown = requests.get(
        f"{shared.url}/api/v1/domains/default/repositories/dev/packages/maven/com.acme:snap",
        auth=reader.auth, timeout=30,
    ).json()  # fmt: skip
    assert [(version["version"], version["status"]) for version in shown["versions"]] == [
        ("1.1-20261103.100000-3", "Unfinished"),
        ("1.1-20261102.100000-2", "Published"),
        ("1.1-20261101.100000-1", "Published"),
    ]


def test_a_build_by_its_list_of_files_alone(publisher: Repository, reader: Repository):
    snapshot(publisher, "listed", "20261101.100000-1", is_listed=False)
    text = (
        "<metadata><versioning><snapshotVersions><snapshotVersion><extension>jar</extension>"
        "<value>1.1-20261101.100000-1</value></snapshotVersion></snapshotVersions></versioning></metadata>"
    )
    publisher.put("com/acme/listed/1.1-SNAPSHOT/maven-metadata.xml", text)
    assert reader.versions("listed") == ["1.1-SNAPSHOT"]


def test_what_is_not_finished_is_no_newest_version(shared: Server, publisher: Repository):
    publisher.deploy("newest", "1.0")
    publisher.send("newest", "2.0")
    url = f"{shared.url}/api/v1/domains/default/repositories/dev/packages?format=maven&search=newest"
    (found,) = requests.get(url, auth=publisher.auth, timeout=30).json()["items"]
    assert (found["latestVersion"], found["versionCount"]) == ("1.0", 2)


def test_a_version_is_finished_by_the_api(shared: Server, publisher: Repository, reader: Repository):
    publisher.send("asked", "1.0")
    url = f"{shared.url}/api/v1/domains/default/repositories/dev/packages/maven/com.acme:asked/versions/1.0/finish"
    assert requests.post(url, auth=reader.auth, timeout=30).status_code == 403
    done = requests.post(url, auth=publisher.auth, timeout=30)
    assert (done.status_code, done.json()["status"]) == (200, "Published")
    assert reader.versions("asked") == ["1.0"]
    assert requests.post(url, auth=publisher.auth, timeout=30).status_code == 200  # and again
    publisher.send("asked", "2.0")
    publisher.put(folder("asked", "2.0") + "-x.jar.sha1", digest(b"never came"))
    assert requests.post(url.replace("1.0", "2.0"), auth=publisher.auth, timeout=30).status_code == 409


def test_a_closed_package(shared: Server, publisher: Repository, reader: Repository):
    publisher.deploy("closed", "1.0")
    snapshot(publisher, "closed", "20261101.100000-1")
    url = f"{shared.url}/api/v1/domains/default/repositories/dev/packages/maven/com.acme:closed/status"

    def close(status: str, token: str) -> None:
        answer = requests.put(url, json={"status": status, "reason": "looks odd"}, auth=("x", token), timeout=30)
        assert answer.status_code == 200, answer.text

    close("quarantined", shared.token("admin", "read", "publish"))
    assert reader.get(folder("closed") + ".jar").status_code == 403
    assert reader.versions("closed") == []
    assert reader.get("com/acme/closed/1.1-SNAPSHOT/maven-metadata.xml").status_code == 404
    refused = publisher.put(folder("closed", "2.0") + ".jar", b"x")
    assert refused.status_code == 403
    assert "looks odd" in refused.reason
    close("archived", shared.token("admin"))  # who may publish does not lift a quarantine
    assert reader.versions("closed") == ["1.0", "1.1-SNAPSHOT"]
    assert publisher.put(folder("closed", "2.0") + ".jar", b"x").status_code == 403


def test_refusals_come_before_the_body(shared: Server, publisher: Repository, reader: Repository):
    publisher.deploy("expected", "1.0")

    def ask(path: str, repository: Repository | None, **headers: str) -> bytes:
        """What the server says to a request that waits for "100 Continue" and never sends its body."""
        lines = {"Host": "server", "Content-Length": "3", "Expect": "100-continue", **headers}
        if repository is not None and repository.auth is not None:
            lines["Authorization"] = f"Bearer {repository.auth[1]}"
        with publishing.connect(shared) as connection:
            connection.sendall(publishing.request_head("PUT", f"/maven/default/dev/{path}", lines))
            return connection.recv(65536)

    there = folder("expected") + ".jar"
    assert ask(there, None).startswith(b"HTTP/1.1 401 ")
    assert ask(there, reader).startswith(b"HTTP/1.1 403 ")
    assert ask("no/path", publisher).startswith(b"HTTP/1.1 400 ")
    conflict = ask(there, publisher, **{"X-Checksum-Sha1": digest(b"other")})
    assert conflict.startswith(b"HTTP/1.1 409 ")
    # What follows on the connection may be the body or a request: nobody can tell, so it ends.
    assert b"connection: close" in conflict.lower()
    assert ask(folder("expected", "2.0") + ".jar", publisher) == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_bodies_after_100_continue_on_one_connection(shared: Server, publisher: Repository):
    token = publisher.auth[1] if publisher.auth else ""
    lines = {"Host": "server", "Content-Length": "3", "Expect": "100-continue", "Authorization": f"Bearer {token}"}
    with publishing.connect(shared) as connection:
        for version in ("1.0", "2.0"):
            path = f"/maven/default/dev/{folder('continued', version)}.jar"
            connection.sendall(publishing.request_head("PUT", path, lines))
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(b"abc")
            assert publishing.read_answer(connection)[0] == 201
    assert publisher.get(folder("continued", "2.0") + ".jar").content == b"abc"


def test_taking_back(publisher: Repository, reader: Repository):
    publisher.deploy("gone", "1.0")
    publisher.send("gone", "2.0")
    snapshot(publisher, "gone", "20261101.100000-1")
    snapshot(publisher, "gone", "20261102.100000-2")
    assert reader.delete("com/acme/gone/2.0/").status_code == 403
    assert publisher.delete("com/acme/gone/2.0/").status_code == 204  # not finished
    assert publisher.delete("com/acme/gone/3.0/").status_code == 404
    assert publisher.delete("com/acme/gone/1.1-20261101.100000-1/").status_code == 204  # one build
    assert reader.versions("gone") == ["1.0", "1.1-SNAPSHOT"]
    assert publisher.delete("com/acme/gone/1.1-SNAPSHOT").status_code == 204  # all builds
    assert reader.versions("gone") == ["1.0"]
    assert publisher.delete("com/acme/gone/1.0/").status_code == 204
    assert reader.versions("gone") == []
    # The name stays ours, and the file never comes back with other bytes.
    assert publisher.put(folder("gone") + ".jar", b"other").status_code in (400, 409)


def test_strangers_are_asked_who_they_are_also_for_what_is_not_there(shared: Server, publisher: Repository):
    stranger = Repository(shared, None)
    publisher.deploy("private", "1.0")
    for path in (folder("private") + ".jar", folder("absent") + ".jar", "com/acme/absent/maven-metadata.xml", "no/such", "", "x y",
                 ".meta/prefixes.txt"):  # fmt: skip
        answer = stranger.get(path)
        assert answer.status_code == 401, path
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    for path in (folder("private") + ".jar", "com/acme/x/maven-metadata.xml", "no/such"):
        assert stranger.put(path, b"x").status_code == 401
    elsewhere = Repository(shared, None, "no-such-repository")
    assert elsewhere.get(folder("private") + ".jar").status_code == 401


def test_readers_may_not_send(reader: Repository):
    for path in (folder("denied") + ".jar", folder("denied") + ".jar.sha1", "com/acme/denied/maven-metadata.xml"):
        assert reader.put(path, b"x").status_code == 403


@pytest.mark.parametrize(
    "path",
    ["com/acme/bad/1.0/index.html", "com/acme/bad/1.0/other-1.0.jar", "com/acme/bad/1.0/bad-2.0.jar", "bad.jar", "com.acme/bad/1/bad-1.jar",
     ".meta/prefixes.txt", "archetype-catalog.xml", "com/acme/bad/1.0/bad-1.0.jar.sha1.md5", "com/acme/bad/1.0/"],
)  # fmt: skip
def test_other_paths_take_nothing(publisher: Repository, path: str):
    assert publisher.put(path, b"x").status_code == 400
    found = publisher.get(path)
    assert found.status_code == (200 if path == "archetype-catalog.xml" else 404)  # which is the server's own
    assert found.content != b"x"


@pytest.mark.parametrize(
    "text",
    [pom("evil", "1.0", group="com.other"), pom("other", "1.0"), pom("evil", "2.0"), "<project>", "", "<html/>",
     '<!DOCTYPE p [<!ENTITY x SYSTEM "file:///etc/passwd">]><project><artifactId>&x;</artifactId></project>'],
)  # fmt: skip
def test_poms_that_lie_or_attack_are_refused(publisher: Repository, text: str):
    """B4."""
    refused = publisher.put(folder("evil") + ".pom", text)
    assert refused.status_code == 400
    assert "POM" in refused.reason
    assert publisher.get(folder("evil") + ".pom").status_code == 404


def test_metadata_that_attacks_is_refused(publisher: Repository):
    """B4."""
    bomb = '<!DOCTYPE m [<!ENTITY x "y">]><metadata>&x;</metadata>'
    assert publisher.put("com/acme/evil/maven-metadata.xml", bomb).status_code == 400
    assert publisher.put("com/acme/evil/maven-metadata.xml", b"<metadata>" + b" " * 9_000_000).status_code == 413


def test_encodings_and_parts_are_refused(publisher: Repository):
    for header in ({"Content-Encoding": "gzip"}, {"Content-Range": "bytes 0-0/2"}):
        assert publisher.put(folder("encoded") + ".jar", b"x", **header).status_code == 400


def test_a_body_without_a_length(publisher: Repository):
    answer = requests.put(
        publisher.url + folder("chunked") + ".jar", data=iter([b"one ", b"two"]), auth=publisher.auth, timeout=30
    )
    assert answer.status_code == 201
    assert publisher.get(folder("chunked") + ".jar").content == b"one two"


def test_checksums_in_the_head_of_a_deployment(publisher: Repository):
    wrong = publisher.put(folder("sums") + ".jar", b"x", **{"X-Checksum-Sha256": digest(b"y", "sha256")})
    assert wrong.status_code == 400
    assert publisher.put(folder("sums") + ".jar", b"x", **{"X-Checksum-Sha256": "short"}).status_code == 400
    right = {"X-Checksum-Sha256": digest(b"x", "sha256"), "X-Checksum-Sha1": digest(b"x")}
    assert publisher.put(folder("sums") + ".jar", b"x", **right).status_code == 201


def test_deploying_by_checksum_alone(shared: Server, publisher: Repository):
    """A11: who may not read where the bytes are does not get them by their digest."""
    publisher.deploy("known", "1.0")
    body = jar(**{"v.txt": "1.0"})
    headers = {
        "X-Checksum-Deploy": "true",
        "X-Checksum-Sha1": digest(body),
        "X-Checksum-Sha256": digest(body, "sha256"),
    }
    assert publisher.put(folder("copy") + ".jar", b"", **headers).status_code == 201
    assert publisher.get(folder("copy") + ".jar").content == body
    unknown = {"X-Checksum-Deploy": "true", "X-Checksum-Sha256": digest(b"unknown", "sha256")}
    assert publisher.put(folder("copy", "2.0") + ".jar", b"", **unknown).status_code == 404
    # Who may not read where the bytes are does not get them by their digest.
    elsewhere = Repository(
        shared, shared.token("admin", "read", "publish", repositories=("default/staging",)), "staging"
    )
    assert elsewhere.put(folder("stolen") + ".jar", b"", **headers).status_code == 404


def test_what_gradle_sends(publisher: Repository, reader: Repository):
    """The plugin maven-publish: a .module beside the POM, four checksums of each, metadata last, bodies in chunks."""
    files = {"jar": jar(), "module": b'{"formatVersion": "1.1"}', "pom": pom("gradled", "1.0").encode()}
    for extension, body in files.items():
        path = f"{folder('gradled')}.{extension}"
        sent = requests.put(publisher.url + path, data=iter([body]), auth=publisher.auth, timeout=30)
        assert sent.status_code == 201
        for algorithm in ("md5", "sha1", "sha256", "sha512"):
            assert publisher.put(f"{path}.{algorithm}", digest(body, algorithm)).status_code == 201
    assert publisher.finish("gradled", "1.0").status_code == 201
    for algorithm in ("md5", "sha1", "sha256", "sha512"):
        assert publisher.put(f"com/acme/gradled/maven-metadata.xml.{algorithm}", "0").status_code == 201
    assert reader.get(folder("gradled") + ".module").content == files["module"]
    assert reader.versions("gradled") == ["1.0"]


def test_plugins_are_found_by_their_prefix(publisher: Repository, reader: Repository):
    group = "com.acme.plugins"
    descriptor = "<plugin><name>Tidy up</name><goalPrefix>tidy</goalPrefix></plugin>"
    for artifact, packaging in (("tidy-up", "maven-plugin"), ("wash-maven-plugin", "maven-plugin"), ("plain", "jar")):
        path = f"com/acme/plugins/{artifact}/1/{artifact}-1"
        publisher.put(f"{path}.pom", pom(artifact, "1", group=group, packaging=packaging))
        publisher.put(
            f"{path}.jar", jar(**({"META-INF/maven/plugin.xml": descriptor} if artifact == "tidy-up" else {}))
        )
        publisher.finish(artifact, "1", group=group)
    root = ET.fromstring(reader.get("com/acme/plugins/maven-metadata.xml").content)
    found = {plugin.findtext("prefix"): plugin.findtext("artifactId") for plugin in root.iter("plugin")}
    assert found == {"tidy": "tidy-up", "wash": "wash-maven-plugin"}
    assert root.find("versioning") is None
    # The same path can be an artifact's as well: com.acme:plugins.
    publisher.deploy("plugins", "3.0")
    root = ET.fromstring(reader.get("com/acme/plugins/maven-metadata.xml").content)
    assert [version.text for version in root.iter("version")] == ["3.0"]
    assert len(list(root.iter("plugin"))) == 2


def test_promotion_takes_the_version_along(shared: Server, publisher: Repository):
    publisher.deploy("promoted", "1.0")
    snapshot(publisher, "promoted", "20261101.100000-1")
    administrator = shared.token("admin")
    for version in ("1.0", "1.1-20261101.100000-1"):
        done = requests.post(
            f"{shared.url}/api/v1/domains/default/repositories/dev/packages/maven/com.acme:promoted/versions/{version}/promote",
            json={"target": "staging"}, headers={"Authorization": f"Bearer {administrator}"}, timeout=30,
        )  # fmt: skip
        assert done.status_code == 200, done.text
    staging = Repository(shared, administrator, "staging")
    assert staging.versions("promoted") == ["1.0", "1.1-SNAPSHOT"]
    assert staging.get(folder("promoted") + ".jar").content == jar(**{"v.txt": "1.0"})
    assert staging.get("com/acme/promoted/1.1-SNAPSHOT/maven-metadata.xml").status_code == 200
    assert "/com/acme\n" in staging.get(".meta/prefixes.txt").text


def test_a_large_file_goes_through_in_pieces(publisher: Repository):
    body = hashlib.sha256(b"seed").digest() * 300_000  # 9.6 MB
    assert publisher.put(folder("large") + ".zip", body).status_code == 201
    assert publisher.get(folder("large") + ".zip.sha512").text == digest(body, "sha512")


def test_silence_finishes_a_version_that_has_its_pom(tmp_path: Path, shared: Server):
    environment = {**shared.environment, "ENTREPOT_STORAGE_FINISH_AFTER_SECONDS": "1"}
    server = Server(tmp_path / "data", with_worker=False, environment=environment).start()
    try:
        publisher = Repository(server, server.token("admin", "read", "publish"))
        reader = Repository(server, server.token("admin", "read"))
        publisher.send("quiet", "1.0")
        publisher.put(folder("headless") + ".jar", b"no POM")
        publisher.send("broken", "1.0")
        publisher.put(folder("broken") + "-sources.jar.sha1", digest(b"never came"))
        wait_until(lambda: reader.versions("quiet") == ["1.0"])
        assert reader.get(folder("quiet") + ".jar").status_code == 200
        assert reader.versions("headless") == reader.versions("broken") == []
        assert reader.get(folder("headless") + ".jar").status_code == 404
        # From the file alone as well, and in the name of who sent it.
        publisher.send("silent", "1.0")
        wait_until(lambda: reader.get(folder("silent") + ".pom").status_code == 200)
        assert server.fsck() == ""
    finally:
        server.kill()


def test_the_worker_finishes_what_nobody_asks_for(tmp_path: Path):
    # The registry's own view of rows: what looks at metadata would finish the version itself.
    server = Server(tmp_path / "data", environment={"ENTREPOT_STORAGE_FINISH_AFTER_SECONDS": "1"}).start()
    try:
        token = server.token("admin", "read", "publish")
        Repository(server, token).send("unasked", "1.0")
        url = f"{server.url}/api/v1/domains/default/repositories/dev/packages/maven/com.acme:unasked"

        def status() -> str:
            return requests.get(url, auth=("x", token), timeout=30).json()["versions"][0]["status"]

        wait_until(lambda: status() == "Published")
    finally:
        server.kill()
