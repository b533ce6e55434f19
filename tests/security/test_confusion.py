"""C9: a name of ours with a higher version outside. pip, npm and mvn never get that one, until somebody allows it."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from registry.repos import origins
from tests import postgres
from tests.fakes.upstream import FaultyUpstream
from tests.functional.outside_world import OutsideWorld
from tests.harness import npm_packages, packages
from tests.harness.clients import Clients
from tests.harness.maven import Mvn, Repository, digest, jar, metadata, pom
from tests.harness.npm_clients import NpmClients
from tests.harness.server import Server
from tests.security.attack import at_once
from tests.security.conftest import needs_postgres
from tests.security.test_races import publication

JSON = {"Accept": "application/vnd.pypi.simple.v1+json"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: FaultyUpstream) -> Iterator[Server]:
    """Its ``public`` asks the attacker's index for everything; for Maven's plugins there is a real one besides."""
    environment = {"ENTREPOT_UPSTREAM_URLS": f"pypi={upstream.url}/simple/,npm={upstream.url}/npm/"}
    running = Server(tmp_path_factory.mktemp("confusion") / "data", with_worker=False, environment=environment).start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def token(server: Server) -> str:
    return server.token("admin")


def call(server: Server, token: str, method: str, path: str, **options: object) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"}
    answer = requests.request(
        method, f"{server.url}/api/v1/domains/default/{path}", headers=headers, timeout=60, **options
    )
    answer.raise_for_status()
    return answer


def put_controls(server: Server, token: str, format_name: str, name: str, publish: str, upstream: str) -> None:
    namespace, _, bare = name.rpartition("/")
    path = f"repositories/dev/packages/{format_name}/{bare}/origin-configuration"
    body = {"restrictions": {"publish": publish, "upstream": upstream}}
    call(server, token, "PUT", path, json=body, params={"namespace": namespace})


def group(server: Server, token: str, pattern: str, **restrictions: str) -> None:
    known = call(server, token, "GET", "package-groups", params={"prefix": pattern}).json()["packageGroups"]
    if not known:
        call(server, token, "POST", "package-group", json={"packageGroup": pattern})
    where = {"packageGroup": pattern}
    call(server, token, "PUT", "package-group-origin-configuration", params=where, json={"restrictions": restrictions})


@contextmanager
def without_bodies(server: Server) -> Iterator[None]:
    """What is published can be listed and not be read: the internal repository fails."""
    blobs = server.data / "blobs"
    blobs.rename(blobs.with_name("away"))
    try:
        yield
    finally:
        shutil.rmtree(blobs, ignore_errors=True)
        blobs.with_name("away").rename(blobs)


ABSENCE_SECONDS = 61.0


def asked(upstream: FaultyUpstream, name: str) -> list[str]:
    return [seen.path for seen in upstream.requests if name in seen.path]


@pytest.mark.slow
def test_C9_pip_never_gets_the_name_from_outside(
    server: Server, token: str, upstream: FaultyUpstream, tmp_path: Path
) -> None:
    for name in ("corp-lib", "acme-new", "theirs"):
        upstream.add_project(name, dict([packages.wheel(name, "99.0")]))
    clients = Clients(tmp_path / "home")

    def install(name: str) -> str:
        """The version that is installed in a fresh environment; nothing where pip fails."""
        python = clients.venv(f"venv-{len(list(clients.home.iterdir()))}")
        done = clients.pip_install(python, server.index(token=token), "--retries", "0", name)
        if done.returncode != 0:
            return ""
        told = clients.run(str(python), "-c", f"from importlib.metadata import version; print(version({name!r}))")
        return told.ok().output.strip()

    body = packages.save(tmp_path, packages.wheel("corp-lib", "1.0"))
    clients.twine(server.index(simple=False), token, *body).ok()
    assert install("corp-lib") == "1.0"
    with without_bodies(server):
        assert install("corp-lib") == ""
    group(server, token, "/pypi//acme~", EXTERNAL_UPSTREAM="BLOCK")
    assert install("acme-new") == ""
    assert asked(upstream, "corp-lib") == asked(upstream, "acme-new") == []

    # What came from outside is not published over, and twine says why; nor what a group keeps for nobody.
    assert install("theirs") == "99.0"
    refused = clients.twine(
        server.index(simple=False), token, *packages.save(tmp_path, packages.wheel("theirs", "1.0"))
    )
    assert refused.returncode != 0
    assert "403" in refused.output
    assert "theirs came to dev from an upstream" in " ".join(refused.output.split())
    group(server, token, "/pypi//blocked~", PUBLISH="BLOCK")
    refused = clients.twine(
        server.index(simple=False), token, *packages.save(tmp_path, packages.wheel("blocked-lib", "1.0"))
    )
    assert refused.returncode != 0
    assert "package group /pypi//blocked~ says PUBLISH: BLOCK" in " ".join(refused.output.split())

    # The negative control: once an administrator allows both, the attack works.
    put_controls(server, token, "pypi", "corp-lib", "ALLOW", "ALLOW")
    group(server, token, "/pypi//acme~", EXTERNAL_UPSTREAM="ALLOW")
    assert install("corp-lib") == "99.0"
    assert install("acme-new") == "99.0"


@pytest.mark.slow
def test_C9_npm_never_gets_the_name_from_outside(
    server: Server, token: str, upstream: FaultyUpstream, tmp_path: Path
) -> None:
    clients = NpmClients(tmp_path / "home", f"{server.url}/npm/default/dev/", token)

    def install(name: str, wanted: str = "*") -> str:
        """The version that is installed, or npm's word for why none is."""
        clients.forget()
        app = clients.project(f"app-{len(list(clients.home.iterdir()))}", dependencies={name: wanted}, private=True)
        done = clients.npm("install", "--no-audit", "--no-fund", "--fetch-retries=0", cwd=app)
        if done.returncode != 0:
            return next(word for word in ("E404", "E403", "ETARGET", "E5") if word in done.output)
        return str(json.loads((app / "node_modules" / name / "package.json").read_text())["version"])

    # npm looks before its first publish, and would not put latest on less than what is there: the attack comes second.
    clients.npm("publish", cwd=clients.project("corp-lib", "1.0.0")).ok()
    published = time.monotonic()
    for name in ("corp-lib", "@acme/new", "theirs"):
        upstream.add_npm_package(name, {"99.0.0": npm_packages.tarball(name, "99.0.0")})
    before = asked(upstream, "/npm/corp-lib")
    assert (install("corp-lib"), install("corp-lib", ">=1.0.0"), install("corp-lib", "99.0.0")) == (
        "1.0.0",
        "1.0.0",
        "ETARGET",
    )
    with without_bodies(server):
        assert install("corp-lib") == "E5"
    group(server, token, "/npm/acme/*", EXTERNAL_UPSTREAM="BLOCK")
    assert install("@acme/new") == "E404"
    assert (asked(upstream, "/npm/corp-lib"), asked(upstream, "/npm/@acme")) == (before, [])

    assert install("theirs") == "99.0.0"
    refused = clients.npm("publish", cwd=clients.project("theirs", "100.0.0"))
    assert refused.returncode != 0
    assert "E403" in refused.output
    assert "theirs came to dev from an upstream" in refused.output
    group(server, token, "/npm//blocked~", PUBLISH="BLOCK")
    refused = clients.npm("publish", cwd=clients.project("blocked-lib", "1.0.0"))
    assert refused.returncode != 0
    assert "package group /npm//blocked~ says PUBLISH: BLOCK" in refused.output

    put_controls(server, token, "npm", "corp-lib", "ALLOW", "ALLOW")
    group(server, token, "/npm/acme/*", EXTERNAL_UPSTREAM="ALLOW")
    assert install("@acme/new") == "99.0.0"
    # That there was none outside, which npm asked before it published, counts for a minute.
    time.sleep(max(0.0, published + ABSENCE_SECONDS - time.monotonic()))
    assert install("corp-lib", "99.0.0") == "99.0.0"


@pytest.mark.long  # one decision for all formats, shown by pip and npm in each run; Maven alone takes three minutes
@pytest.mark.network
@pytest.mark.skipif(shutil.which("mvn") is None, reason="there is no mvn on this machine")
def test_C9_mvn_never_gets_the_name_from_outside(
    server: Server, token: str, upstream: FaultyUpstream, tmp_path: Path
) -> None:
    for artifact in ("corp-lib", "acme-new", "theirs"):
        folder = f"/m2/com/acme/{artifact}"
        for extension, body in (("pom", pom(artifact, "99.0").encode()), ("jar", jar(v="99"))):
            upstream.serve(f"{folder}/99.0/{artifact}-99.0.{extension}", body)
            upstream.serve(f"{folder}/99.0/{artifact}-99.0.{extension}.sha1", digest(body).encode())
        upstream.serve(f"{folder}/maven-metadata.xml", metadata("99.0").encode(), content_type="text/xml")
    attacker = {"format": "maven", "name": "attacker", "url": f"{upstream.url}/m2/"}
    call(server, token, "POST", "repositories/public/connections", json=attacker)
    mvn, dev = Mvn(tmp_path / "home"), Repository(server, token)
    mvn.login(server, token)

    plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"

    def install(artifact: str) -> list[str]:
        """The artifact's files that mvn fetched for the range of all versions."""
        shutil.rmtree(mvn.local / "com" / "acme", ignore_errors=True)
        needs = f"<dependencies><dependency><groupId>com.acme</groupId><artifactId>{artifact}</artifactId>"
        needs += "<version>[1.0,)</version></dependency></dependencies>"
        app = mvn.project("app", pom("app", "1.0", more=needs))
        done = mvn.run(f"{plugin}:copy-dependencies", "-DoutputDirectory=out", cwd=app)
        # A failure has to be one of the artifact, and not of the tools.
        assert done.returncode == 0 or f"com.acme:{artifact}" in done.output, done.output
        found = sorted(path.name for path in (app / "out").glob("*.jar"))
        shutil.rmtree(app)
        return found

    dev.deploy("corp-lib", "1.0")
    assert install("corp-lib") == ["corp-lib-1.0.jar"]
    with without_bodies(server):
        assert install("corp-lib") == []
    group(server, token, "/maven/com.acme/acme~", EXTERNAL_UPSTREAM="BLOCK")
    assert install("acme-new") == []
    assert asked(upstream, "com/acme/corp-lib") == asked(upstream, "com/acme/acme-new") == []

    assert install("theirs") == ["theirs-99.0.jar"]
    refused = dev.put("com/acme/theirs/100.0/theirs-100.0.jar", jar())
    assert refused.status_code == 403
    place = f"<id>entrepot</id><url>{dev.url}</url>"
    more = f"<distributionManagement><repository>{place}</repository></distributionManagement>"
    deploying = mvn.run("deploy", cwd=mvn.project("theirs", pom("theirs", "100.0", packaging="pom", more=more)))
    assert deploying.returncode != 0
    assert "com.acme/theirs came to dev from an upstream" in deploying.output
    put_controls(server, token, "maven", "com.acme/corp-lib", "ALLOW", "ALLOW")
    group(server, token, "/maven/com.acme/acme~", EXTERNAL_UPSTREAM="ALLOW")
    assert install("corp-lib") == ["corp-lib-99.0.jar"]
    assert install("acme-new") == ["acme-new-99.0.jar"]


def test_C9_it_is_the_decision_that_stands_in_the_way(
    tmp_path: Path, upstream: FaultyUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control from inside: with the one function saying yes to everything, the attack works."""
    world = OutsideWorld(tmp_path)
    try:
        world.disconnect()
        world.connect(upstream)
        upstream.add_project("inner-lib", dict([packages.wheel("inner-lib", "99.0")]))
        world.publish("dev", "inner-lib", "1.0")
        assert world.versions("inner-lib") == ["1.0"]
        monkeypatch.setattr(origins, "_counts", lambda *_: origins.Decision(allowed=True, rule=origins.Rule.OPEN))
        # Decisions are remembered with the topology: a new one asks anew.
        world.disconnect("outside")
        world.connect(upstream)
        world.publish("dev", "inner-lib", "1.1")
        assert world.versions("inner-lib") == ["1.0", "1.1", "99.0"]
    finally:
        world.close()


@pytest.mark.parametrize(
    "database", [pytest.param("sqlite", marks=pytest.mark.long), pytest.param("postgresql", marks=needs_postgres)]
)
def test_C9_first_publish_and_first_fetch_at_once_have_one_origin(
    database: str, upstream: FaultyUpstream, tmp_path: Path
) -> None:
    environment = {"ENTREPOT_UPSTREAM_URLS": f"pypi={upstream.url}/simple/"}
    with postgres.shared().fresh_database() if database == "postgresql" else _nothing() as url:
        if url:
            environment["ENTREPOT_DATABASE_URL"] = url
        server = Server(tmp_path / "data", with_worker=False, environment=environment).start()
        try:
            site = (server, server.token())
            outcomes = {_race(site, upstream, f"contested-{turn}") for turn in range(8)}
            assert outcomes <= {"ours", "theirs"}
            assert server.fsck() == ""
            assert "Traceback" not in server.log_text()
        finally:
            server.kill()


@contextmanager
def _nothing() -> Iterator[None]:
    yield None


def _race(site: tuple[Server, str], upstream: FaultyUpstream, name: str) -> str:
    """Publish and fetch a name for the first time, at once and several times each; whose it is then, everywhere."""
    server, token = site
    filename, _ = packages.wheel(name, "99.0")
    upstream.add_project(name, dict([packages.wheel(name, "99.0")]))
    headers = {"Authorization": f"Bearer {token}", **JSON}

    def get(path: str) -> requests.Response:
        return requests.get(f"{server.url}/pypi/default/staging/{path}", headers=headers, timeout=60)

    patch = {"upstreams": ["public"]}
    call(server, token, "PATCH", "repositories/staging", json=patch)
    publish = publication(site, name, "1.0", {})
    fetch = [lambda: get(f"files/{name}/{filename}")] * 3
    answers = at_once(*fetch, publish, *fetch)
    published = answers[3]
    assert isinstance(published, requests.Response)
    rows = call(server, token, "GET", f"repositories/staging/packages/pypi/{name}").json()
    origins_of = {version["origin"] for version in rows["versions"]}
    versions, of_theirs = get(f"simple/{name}/").json()["versions"], get(f"files/{name}/{filename}").status_code
    if published.status_code == 200:
        assert (rows["origin"], origins_of, versions, of_theirs) == ("published", {"published"}, ["1.0"], 404)
        return "ours"
    assert published.status_code == 403, published.text
    assert (rows["origin"], origins_of, versions, of_theirs) == ("upstream", {"upstream"}, ["99.0"], 200)
    return "theirs"
