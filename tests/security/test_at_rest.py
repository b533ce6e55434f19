"""K1, L4: what lies on the disk tells nobody what was uploaded, built or used to sign in."""

import base64
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import requests

from registry.token_shape import looks_like_token
from tests.harness import packages
from tests.harness.clients import Clients
from tests.harness.server import Server

PIPELINE = """
buildProject:
  name: prints
  buildspec: |
    version: 0.2
    phases:
      build:
        commands:
          - python3 -c "print('{reversed_output}'[::-1])"
          - python3 -c "import os; print('TOKEN ' + open(os.path.expanduser('~/.netrc')).read().split()[-1][::-1])"
---
pipeline:
  name: release
  stages:
    - name: Source
      actions:
        - name: Package
          actionTypeId: {{category: Source, owner: Entrepot, provider: Package, version: "1"}}
          configuration: {{Repository: staging, Format: pypi, Name: "*"}}
          outputArtifacts: [{{name: package}}]
    - name: Test
      actions:
        - name: Prints
          actionTypeId: {{category: Test, owner: AWS, provider: CodeBuild, version: "1"}}
          configuration: {{ProjectName: prints}}
          inputArtifacts: [{{name: package}}]
    - name: Promote
      actions:
        - name: ToProd
          actionTypeId: {{category: Deploy, owner: Entrepot, provider: Promote, version: "1"}}
          configuration: {{TargetRepository: prod}}
          inputArtifacts: [{{name: package}}]
"""


def forms(canary: bytes) -> dict[str, bytes]:
    """A canary as it may stand somewhere: itself, in hex, in base64 behind any number of other bytes, as UTF-16."""
    found = {"plain": canary, "hex": canary.hex().encode(), "HEX": canary.hex().upper().encode()}
    for shift in range(3):
        coded = base64.b64encode(bytes(shift) + canary).rstrip(b"=")
        # The first and last characters mix with the neighbours' bits.
        found[f"base64 at {shift}"] = coded[2 * shift if shift else 0 :][2:-2]
    found["UTF-16"] = canary.decode("latin-1").encode("utf-16-le")
    return found


def traces(places: list[Path], canaries: dict[str, bytes]) -> list[tuple[str, str, str]]:
    """(canary, form, file) for each that is found in any file below ``places``."""
    found = []
    for path in _files(places):
        body = path.read_bytes()
        for name, canary in canaries.items():
            found += [(name, form, str(path)) for form, pattern in forms(canary).items() if pattern in body]
    return found


def _files(places: list[Path]) -> Iterator[Path]:
    for place in places:
        if place.is_file():
            yield place
        for folder, _, names in os.walk(place):
            for name in names:
                path = Path(folder, name)
                if path.is_file() and not path.is_symlink():
                    yield path


def canary(word: str) -> str:
    return f"canary-{word}-{secrets.token_hex(16)}"


def wait_for_promotion(server: Server, headers: dict[str, str]) -> str:
    """The id of the build that ran."""
    deadline = time.monotonic() + 180
    api = f"{server.url}/api/v1"
    while time.monotonic() < deadline:
        items = requests.get(f"{api}/pipelines/release/executions", headers=headers, timeout=20).json()["items"]
        if items and items[0]["status"] != "InProgress":
            assert items[0]["status"] == "Succeeded", (items, server.log_text()[-3000:])
            builds = requests.get(f"{api}/builds", headers=headers, timeout=20).json()["items"]
            return str(builds[0]["id"])
        time.sleep(0.2)
    raise AssertionError(f"no promotion\n{server.log_text()[-3000:]}")


def test_nothing_uploaded_built_or_secret_lies_open(server: Server, tmp_path: Path) -> None:
    password, member, output = canary("password"), canary("member"), canary("output")
    done = server.command("user", "password", "admin", "--data", str(server.data), input=password + "\n")
    assert done.returncode == 0, done.stderr
    token = server.token("admin")
    headers = {"Authorization": f"Bearer {token}"}
    signed_in = requests.post(
        f"{server.url}/sign-in", data={"user": "admin", "password": password}, timeout=20, allow_redirects=False
    )
    assert signed_in.status_code == 303
    assert requests.get(f"{server.url}/api/v1/whoami", auth=("admin", password), timeout=20).status_code == 200
    assert requests.get(f"{server.url}/api/v1/whoami", auth=("admin", password + "x"), timeout=20).status_code == 401
    document = PIPELINE.format(reversed_output=output[::-1])
    applied = requests.put(f"{server.url}/api/v1/pipelines", json={"document": document}, headers=headers, timeout=20)
    assert applied.status_code < 300, applied.text

    readable = {
        "demo/secret.txt": (member + "\n").encode() * 50,
        "demo/stored.bin": member.encode() + os.urandom(2_000_000),
    }
    said = {kind: canary(f"readme-{kind}") for kind in ("wheel", "sdist")}
    files = packages.save(
        tmp_path / "dist",
        packages.wheel("demo", "1.0", files=readable, description=said["wheel"]),
        packages.sdist("demo", "1.0", files=readable, description=said["wheel"]),
    )
    clients = Clients(tmp_path / "home")
    clients.twine(server.index("staging", simple=False), token, *files).ok()
    build = wait_for_promotion(server, headers)
    # The first file of a version gives its description: an sdist's, too.
    (alone,) = packages.save(tmp_path / "alone", packages.sdist("demo", "2.0", description=said["sdist"]))
    clients.twine(server.index("dev", simple=False), token, alone).ok()
    for repository, version, text in (("prod", "1.0", said["wheel"]), ("dev", "2.0", said["sdist"])):
        shown = f"{server.url}/packages/default/{repository}/pypi/demo/-/{version}"
        assert text in requests.get(shown, cookies=signed_in.cookies, timeout=20).text
    assert requests.get(f"{server.index('prod')}demo/", headers=headers, timeout=20).status_code == 200
    # A refused upload leaves nothing readable either, and a download spools nothing.
    (other,) = packages.save(tmp_path / "other", packages.sdist("demo", "1.0", files={"x": member.encode()}))
    assert clients.twine(server.index("staging", simple=False), token, other).returncode != 0
    wheel = files[0].name
    assert (
        requests.get(f"{server.url}/pypi/default/prod/files/demo/{wheel}", headers=headers, timeout=20).content
        == files[0].read_bytes()
    )

    log = requests.get(f"{server.url}/api/v1/builds/{build}/log", headers=headers, timeout=20).text
    assert output in log
    (printed,) = re.findall(r"(?m)^TOKEN (\S+)\r?$", log)
    build_token = printed[::-1]
    assert looks_like_token(build_token)

    canaries = {
        "member": member.encode(), "body": files[0].read_bytes()[-2000:-1900], "password": password.encode(),
        "token": token.encode(), "build token": build_token.encode(), "build output": output.encode(),
        "cookie": signed_in.cookies["entrepot_session"].encode(),
        **{f"description of a {kind}": text.encode() for kind, text in said.items()},
    }  # fmt: skip
    places = [server.data, server.log, *Path("/var/tmp").glob("entrepot-builds-*"), Path("/dev/shm")]
    assert traces(places, canaries) == []
    assert server.stop() == 0
    assert traces(places, canaries) == []  # also what is written at the end
    _control(server, canaries, places)


def _control(server: Server, canaries: dict[str, bytes], places: list[Path]) -> None:
    """The search finds each canary in each form where it does lie, and finds what lies in the database by design."""
    # The line beside the description in the same document, which is kept in clear: had the description been, too, it
    # would have been found.
    assert traces(places, {"summary": b"The demo package"}) != []
    planted = server.data / "run" / "planted"
    for name, body in canaries.items():
        for form, pattern in forms(body).items():
            planted.write_bytes(b"before " + pattern + b" after")
            assert (name, form, str(planted)) in traces([server.data / "run"], {name: body})
        for shift in range(3):
            planted.write_bytes(base64.b64encode(b"x" * shift + body + b"behind"))
            assert traces([planted], {name: body})
    planted.unlink()
