"""Folders as pages, and the catalogue of archetypes: what is here, for whoever may read it."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pytest
import requests

from registry.formats.maven.folders import Entry, render
from tests.fakes.upstream import FaultyUpstream
from tests.harness.maven import Repository, digest, jar, pom
from tests.harness.server import Server


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: FaultyUpstream) -> Iterator[Server]:
    environment = {"ENTREPOT_UPSTREAM_URLS": f"maven={upstream.url}/m2/"}
    running = Server(tmp_path_factory.mktemp("folders") / "data", with_worker=False, environment=environment).start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def dev(server: Server) -> Repository:
    made = Repository(server, server.token("admin"))
    made.deploy("demo", "1.2")
    made.deploy("demo", "1.10")
    made.deploy("demo.tool", "1.0")
    made.deploy("inner", "1.0", group="com.acme.demo")  # its group lies in the folder of an artifact
    return made


# As Gradle's ApacheDirectoryListingParser and Ivy's ApacheURLLister find links.
LINK = re.compile(r'<a[^>]*href="([^"]*)"[^>]*>(?:<[^>]+>)*?([^<>]+?)(?:<[^>]+>)*?</a>', re.IGNORECASE)


def links(page: requests.Response | bytes) -> list[str]:
    """What a page leads to; those tools want the text of a link to be what it leads to."""
    if isinstance(page, requests.Response):
        assert page.status_code == 200, page.text
        assert page.headers["Content-Type"].startswith("text/html")
        page = page.content
    found = LINK.findall(page.decode())
    assert [unquote(unescape(href)) for href, _ in found] == [unescape(text) for _, text in found]
    return [unescape(text) for _, text in found]


def send_build(dev: Repository, folder: str, name: str, number: int, text: str) -> str:
    """One build of the snapshot in ``folder``, with the metadata that finishes it; gives the build's version."""
    base = folder.rpartition("/")[2].removesuffix("-SNAPSHOT")
    timestamp = f"20260101.00000{number}"
    assert dev.put(f"{folder}/{name}-{base}-{timestamp}-{number}.pom", text).status_code == 201
    build = f"<snapshot><timestamp>{timestamp}</timestamp><buildNumber>{number}</buildNumber></snapshot>"
    dev.put(f"{folder}/maven-metadata.xml", f"<metadata><versioning>{build}</versioning></metadata>")
    return f"{base}-{timestamp}-{number}"


def test_from_the_root_to_a_file(dev: Repository):
    assert "com/" in links(dev.get(""))
    assert "../" not in links(dev.get(""))
    assert links(dev.get("com/")) == ["../", "acme/"]
    assert links(dev.get("com/acme/")) == ["../", "demo/", "demo.tool/"]
    assert links(dev.get("com/acme/demo/")) == ["../", "inner/", "1.2/", "1.10/", "maven-metadata.xml"]
    assert links(dev.get("com/acme/demo.tool/")) == ["../", "1.0/", "maven-metadata.xml"]
    page = dev.get("com/acme/demo/1.10/")
    assert links(page) == ["../", "demo-1.10.jar", "demo-1.10.pom"]
    for folder in ("com/acme/demo/", "com/acme/demo/1.10/"):
        for name in links(dev.get(folder)):
            assert dev.get(f"{folder}{name}").status_code == 200, name
    assert str(len(dev.get("com/acme/demo/1.10/demo-1.10.jar").content)) in page.text


def test_every_build_of_a_snapshot_lies_in_its_folder(dev: Repository):
    text = pom("it", "1-SNAPSHOT", group="com.snaps")
    builds = [f"it-{send_build(dev, 'com/snaps/it/1-SNAPSHOT', 'it', number, text)}.pom" for number in (1, 2)]
    dev.finish("it", "1-SNAPSHOT", group="com.snaps")
    assert links(dev.get("com/snaps/it/")) == ["../", "1-SNAPSHOT/", "maven-metadata.xml"]
    assert sorted(links(dev.get("com/snaps/it/1-SNAPSHOT/"))) == sorted(["../", *builds, "maven-metadata.xml"])


def test_what_is_not_finished_or_quarantined_is_not_shown(dev: Repository, server: Server):
    dev.send("hidden", "1.0", group="com.hidden")
    dev.deploy("closed", "1.0", group="com.closed")
    assert "closed/" in links(dev.get("com/closed/"))
    answer = requests.put(
        f"{server.url}/api/v1/domains/default/repositories/dev/packages/maven/com.closed:closed/status",
        json={"status": "quarantined", "reason": "looked at"},
        auth=dev.auth,
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    assert {"hidden/", "closed/"}.isdisjoint(links(dev.get("com/")))
    for path in ("com/hidden/", "com/hidden/hidden/", "com/hidden/hidden/1.0/", "com/closed/", "com/closed/closed/"):
        assert dev.get(path).status_code == 404, path
    dev.finish("hidden", "1.0", group="com.hidden")
    assert "hidden/" in links(dev.get("com/"))


def test_of_the_outside_what_is_kept(dev: Repository, server: Server, upstream: FaultyUpstream):
    for version in ("1.0", "2.0"):
        path = f"/m2/org/far/thing/{version}/thing-{version}.jar"
        upstream.serve(path, jar())
        upstream.serve(f"{path}.sha1", digest(jar()).encode())
    assert dev.get("org/far/thing/").status_code == 404
    assert upstream.requests == []  # nobody outside is asked for a page
    assert dev.get("org/far/thing/1.0/thing-1.0.jar").status_code == 200
    assert links(dev.get("org/far/thing/")) == ["../", "1.0/", "maven-metadata.xml"]
    assert links(dev.get("org/far/thing/1.0/")) == ["../", "thing-1.0.jar"]
    # The repository with the connection has it, too; one without a way to it has nothing at all.
    assert "org/" in links(Repository(server, dev.auth[1], "public").get(""))
    prod = Repository(server, dev.auth[1], "prod")
    assert (links(prod.get("")), prod.get("org/").status_code) == ([], 404)


def test_who_may_not_read_sees_nothing(dev: Repository, server: Server):
    for path in ("", "com/", "com/acme/demo/", "nowhere/", "archetype-catalog.xml"):
        assert requests.get(dev.url + path, timeout=30).status_code == 401, path
        elsewhere = server.token("admin", "read", repositories=("prod",))
        assert requests.get(dev.url + path, auth=("x", elsewhere), timeout=30).status_code in (403, 404), path


@pytest.mark.parametrize(
    "path",
    ["<script>alert(1)</script>/", "com/<b>/", "com//acme/", 'com/"onload="x/', "com.acme/", "COM/", "com/acm%25/"],
)
def test_what_is_no_folder_is_not_found(dev: Repository, path: str):
    """A10."""
    answer = dev.get(path)
    assert answer.status_code in (400, 404)
    assert "text/html" not in answer.headers["Content-Type"]


def test_a_page_runs_nothing_whatever_is_in_it(dev: Repository):
    """C11."""
    page = dev.get("com/acme/")
    assert page.headers["Content-Security-Policy"].startswith("sandbox")
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    names = ['"><svg onload=alert(1)>', "a&b<c>", "javascript:alert(1)", "1.0+b~2!/"]
    body = render('/"><script>', dict.fromkeys(names, Entry(5, datetime(2026, 1, 1, tzinfo=UTC))), has_parent=True)
    assert sorted(links(body)) == sorted(["../", *names])
    assert b"<svg" not in body
    assert b"<script" not in body
    assert b'href="javascript:' not in body


def test_the_catalogue_of_archetypes(dev: Repository, server: Server):
    def listed(repository: Repository) -> list[tuple[str, ...]]:
        root = ET.fromstring(repository.get("archetype-catalog.xml").content)
        assert root.tag == "archetype-catalog"
        return [tuple(element.text or "" for element in each) for each in root.iter("archetype")]

    assert listed(dev) == []
    described = "<description>Begin &lt;here&gt; &amp; now</description>"
    for version, group in (("1.10", "com.kits"), ("1.2", "com.kits"), ("1", "com.a")):
        before = listed(dev)
        folder = f"{group.replace('.', '/')}/kit/{version}"
        dev.put(f"{folder}/kit-{version}.jar", jar())
        text = pom("kit", version, group=group, packaging="maven-archetype", more=described)
        assert dev.put(f"{folder}/kit-{version}.pom", text).status_code == 201
        assert listed(dev) == before  # it is not finished yet
        dev.finish("kit", version, group=group)
        dev.deploy("no-kit", version, group=group)
    text = pom("kit", "3-SNAPSHOT", group="com.kits", packaging="maven-archetype", more=described)
    for number in (1, 2):
        send_build(dev, "com/kits/kit/3-SNAPSHOT", "kit", number, text)
    dev.finish("kit", "3-SNAPSHOT", group="com.kits")
    about = "Begin <here> & now"
    versions = [("com.a", "1"), ("com.kits", "1.2"), ("com.kits", "1.10"), ("com.kits", "3-SNAPSHOT")]
    assert listed(dev) == [(group, "kit", version, about) for group, version in versions]
    found = dev.get("archetype-catalog.xml")
    assert dev.get("archetype-catalog.xml.sha1").text == digest(found.content)
    assert listed(Repository(server, dev.auth[1], "prod")) == []
