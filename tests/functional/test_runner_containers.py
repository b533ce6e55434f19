"""A build in a container on a runner: the runner's engine, the server's registry behind TLS."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.build_bench import MISSING_SANDBOX, eventually, work_directory
from tests.functional.test_runners import Site
from tests.harness.podman import IMAGE, Podman
from tests.harness.server import Server
from tests.harness.tls_front import tls_front

pytestmark = [pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX), pytest.mark.long]
FETCH = """
import base64, netrc, urllib.request
login, _, password = netrc.netrc().authenticators("127.0.0.1")
request = urllib.request.Request("http://127.0.0.1:7979/generic/default/dev/thing/1.0/thing.txt")
request.add_header("Authorization", "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode())
print("the registry has", urllib.request.urlopen(request).read().decode())
"""
SPEC = "version: 0.2\nphases: {build: {commands: ['echo from image $FROM_IMAGE', 'python3 fetch.py']}}"


@pytest.fixture(scope="module")
def site(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    environment = {"ENTREPOT_BUILDS_CONTAINER_SOCKET": podman.socket, "ENTREPOT_BUILDS_CONTAINER_IMAGE": IMAGE}
    folder = tmp_path_factory.mktemp("site")
    server = Server(folder / "data", with_worker=False, environment=environment, web_processes=1)
    server.start()
    with work_directory() as place, tls_front(server.port, folder / "front") as front:
        made = Site(server, server.token(), front)
        made.places.append(place / "runner")
        yield made
        for process in made.runners:
            process.terminate()
            process.wait(40)
    server.kill()


def test_a_container_build_on_a_runner_reads_the_registry_and_leaves_nothing(site: Site, podman: Podman) -> None:
    (place,) = site.places
    trust = ("--ca-bundle", str(site.front.authority))
    done = site.register(place, site.add("boxes"), *trust, url=site.front.url)
    assert done.returncode == 0, done.stderr
    runner = site.run(place, *trust)
    put = site.server.url + "/generic/default/dev/thing/1.0/thing.txt"
    site.publish(put, b"the very thing")
    document = {
        "name": "boxed", "repository": "dev", "source": {"type": "UPLOAD"},
        "environment": {"type": "container", "network": "registry", "computeType": "BUILD_GENERAL1_SMALL"},
    }  # fmt: skip
    site.call("PUT", "/build-projects/boxed", json={"document": json.dumps(document)})
    upload = site.upload("boxed", {"buildspec.yml": SPEC, "fetch.py": FETCH})
    build_id = site.call("POST", "/build-projects/boxed/builds", 201, json={"sourceUpload": upload}).json()["id"]
    eventually(lambda: site.build(build_id)["status"] != "IN_PROGRESS", "the build never ended")
    log = site.log(build_id)
    assert site.build(build_id)["status"] == "SUCCEEDED", log
    assert "Running on runner boxes" in log
    assert "from image yes" in log
    assert "the registry has the very thing" in log
    (shown,) = site.call("GET", "/runners").json()["items"]
    assert "container" in shown["environments"]
    assert not podman.engine.containers(f"entrepot.builds={place / 'work' / 'containers'}")
    assert runner.poll() is None
