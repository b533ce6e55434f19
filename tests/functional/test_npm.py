"""The npm registry API on a real server, as far as no client shows it: addresses, representations, refusals, changes."""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.fakes.upstream import FaultyUpstream
from tests.harness import npm_packages as packages
from tests.harness.processes import MemoryWatch, descendants
from tests.harness.server import Server

THEIR_KEY = {"keyid": "SHA256:theirs", "key": "AAAA", "expires": None, "keytype": "x", "scheme": "x"}
ABBREVIATED = "application/vnd.npm.install-v1+json"


class Registry:
    """One repository of the server, asked as its administrator."""

    def __init__(self, server: Server, repository: str, token: str) -> None:
        self.server = server
        self.url = f"{server.url}/npm/default/{repository}/"
        self.token = token

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        return requests.request(method, self.url + path, headers=headers, timeout=60, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.ask("GET", path, **options)

    def publish(self, name: str, version: str, body: bytes | None = None, **options: Any) -> requests.Response:
        return self.put(packages.publish_document(name, version, body, **options), name)

    def put(self, document: Any, name: str) -> requests.Response:
        return self.ask("PUT", quote(name, safe="@"), json=document)

    def document(self, name: str) -> dict[str, Any]:
        answer = self.get(quote(name, safe="@"), params={"write": "true"})
        answer.raise_for_status()
        return answer.json()

    def versions(self, name: str) -> list[str]:
        answer = self.get(quote(name, safe="@"))
        return list(answer.json()["versions"]) if answer.ok else []


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        keys = json.dumps({"keys": [THEIR_KEY]}).encode()
        running.serve("/npm/-/npm/v1/keys", keys, content_type="application/json")
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: FaultyUpstream) -> Iterator[Server]:
    """One for all tests of this module, each of which has package names of its own."""
    running = Server(
        tmp_path_factory.mktemp("npm") / "data",
        with_worker=False,
        environment={"ENTREPOT_UPSTREAM_URLS": f"npm={upstream.url}/npm/"},
    ).start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def token(server: Server) -> str:
    return server.token("admin")


@pytest.fixture
def dev(server: Server, token: str) -> Registry:
    return Registry(server, "dev", token)


@pytest.fixture
def public(server: Server, token: str) -> Registry:
    return Registry(server, "public", token)


def test_every_spelling_of_a_name_is_one_package(dev: Registry):
    body = packages.tarball("@spelled/demo", "1.0.0")
    assert dev.publish("@spelled/demo", "1.0.0", body).status_code == 201
    for spelled in ("@spelled/demo", "@spelled%2fdemo", "@spelled%2Fdemo", "%40spelled%2fdemo", "%40spelled/demo"):
        assert dev.get(spelled).json()["name"] == "@spelled/demo"
        assert dev.get(f"{spelled}/1.0.0").json()["version"] == "1.0.0"
        assert dev.get(f"{spelled}/latest").json()["version"] == "1.0.0"
        assert dev.get(f"{spelled}/-/demo-1.0.0.tgz").content == body
    assert dev.get("@spelled/demo/-/@spelled/demo-1.0.0.tgz").content == body


def test_representations(dev: Registry):
    dev.publish("represented", "1.0.0", devDependencies={"x": "1"})
    full = dev.get("represented")
    assert full.headers["Content-Type"] == "application/json"
    assert "Accept" in full.headers["Vary"]
    accepts = {
        f"{ABBREVIATED}; q=1.0, application/json; q=0.8, */*": ABBREVIATED,
        ABBREVIATED: ABBREVIATED,
        "application/json": "application/json",
        "*/*": "application/json",
        f"application/json, {ABBREVIATED};q=0.1": "application/json",
        f"{ABBREVIATED};q=0, application/json": "application/json",
    }
    for accept, expected in accepts.items():
        answer = dev.get("represented", headers={"Accept": accept})
        assert answer.headers["Content-Type"] == expected, accept
        assert ("_rev" in answer.json()) == (expected == "application/json")
        assert (
            dev.get("represented", headers={"Accept": accept, "If-None-Match": answer.headers["ETag"]}).status_code
            == 304
        )
        assert dev.get("represented/-/represented-1.0.0.tgz", headers={"Accept": accept}).status_code == 200
    plain = dev.get("represented", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert plain.json() == full.json()
    assert set(full.json()["time"]) == {"created", "modified", "1.0.0"}


def test_a_version_alone_is_what_stands_in_the_document(dev: Registry):
    dev.publish("alone", "1.0.0")
    whole = dev.get("alone").text
    assert dev.get("alone/1.0.0").text in whole
    assert dev.get("alone/9.9.9").status_code == 404
    assert dev.get("alone/beta").json() == {"error": "version 'alone@beta' was not found"}


def test_what_is_listed_comes_from_the_archive(dev: Registry):
    body = packages.tarball("derived", "1.0.0", dependencies={"real": "1.0.0"}, scripts={"postinstall": "x"})
    answer = dev.publish("derived", "1.0.0", body, dependencies={"hidden": "6.6.6"}, bin={"x": "x.js"})
    assert answer.status_code == 201
    assert answer.headers["npm-notice"].startswith("dependencies of the published document")
    listed = dev.get("derived/1.0.0").json()
    assert listed["dependencies"] == {"real": "1.0.0"}
    assert "bin" not in listed
    dist = listed["dist"]
    assert dist["integrity"] == packages.integrity(body).integrity
    assert dist["shasum"] == packages.integrity(body).shasum
    assert dist["fileCount"] == 3
    assert dist["tarball"] == f"{dev.url}derived/-/derived-1.0.0.tgz"
    assert listed["_npmUser"]["name"] == "admin"
    assert listed["_npmVersion"] == "11.0.0"


def test_our_signature_verifies_with_the_key_we_publish(dev: Registry):
    dev.publish("@signed/demo", "1.0.0")
    dist = dev.get("@signed%2fdemo/1.0.0").json()["dist"]
    keys = {key["keyid"]: key for key in dev.get("-/npm/v1/keys").json()["keys"]}
    (signature,) = dist["signatures"]
    key = serialization.load_der_public_key(base64.b64decode(keys[signature["keyid"]]["key"]))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    signed = f"@signed/demo@1.0.0:{dist['integrity']}".encode()
    key.verify(base64.b64decode(signature["sig"]), signed, ec.ECDSA(hashes.SHA256()))


def test_publishing_again(dev: Registry):
    body = packages.tarball("again", "1.0.0")
    assert dev.publish("again", "1.0.0", body).status_code == 201
    assert dev.publish("again", "1.1.0").status_code == 201
    same = dev.publish("again", "1.0.0", body)
    assert (same.status_code, same.json()["ok"]) == (200, True)
    assert dev.document("again")["dist-tags"] == {"latest": "1.1.0"}
    other = dev.publish("again", "1.0.0", packages.tarball("again", "1.0.0", files={"x": b""}))
    assert other.status_code == 403
    assert other.json() == {"error": "You cannot publish over the previously published versions: 1.0.0."}


def test_one_of_many_writers_wins(dev: Registry):
    bodies = [packages.tarball("raced", "1.0.0", files={"n": str(number).encode()}) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda body: dev.publish("raced", "1.0.0", body).status_code, bodies))
    assert sorted(answers) == [201] + [403] * 5
    assert dev.get("raced/-/raced-1.0.0.tgz").content == bodies[answers.index(201)]


SOUND = packages.publish_document("hostile", "1.0.0")


def hostile(**changes: Any) -> dict[str, Any]:
    return {**SOUND, **changes}


def attached(name: str = "hostile-1.0.0.tgz", **changes: Any) -> dict[str, Any]:
    attachment = {**SOUND["_attachments"]["hostile-1.0.0.tgz"], **changes}
    return hostile(_attachments={name: attachment})


def packed(body: bytes) -> dict[str, Any]:
    document = packages.publish_document("hostile", "1.0.0", body)
    document["versions"]["1.0.0"].update(name="hostile", version="1.0.0")
    return document


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (hostile(name="other"), "name is not hostile"),
        (hostile(versions={}), "exactly one version"),
        (hostile(**{"dist-tags": {"latest": "9.9.9"}}), "does not point"),
        (attached("../../../etc/evil.tgz"), "attachment"),
        (attached(length=7), "longer than"),
        (attached(length=10**9), ""),
        (attached(data=base64.b64encode(b"other bytes").decode(), length=11), "integrity|sha|digest"),
        (attached(data="****"), "base64"),
        (hostile(_attachments={"a.tgz": {"data": "QUJD"}, "b.tgz": {"data": "QUJD"}}), "two tarballs"),
        (packed(packages.tarball("other", "1.0.0")), "other"),
        (packed(packages.tarball("hostile", "2.0.0")), "2.0.0"),
        (packed(packages.tarball("hostile", "1.0.0", files={"../../evil": b"x"})), "'..' part"),
        (packed(packages.tarball("hostile", "1.0.0", raw={"package/./package.json": b"{}"})), "part"),
        (packed(b"not a tarball"), "gzip"),
        (packed(gzip.compress(b"x")), "tar"),
        ([], "JSON object"),
        ("x", "JSON object"),
    ],
)
def test_what_is_refused_leaves_nothing(dev: Registry, document: Any, says: str):
    answer = dev.put(document, "hostile")
    assert answer.status_code == 400, answer.text
    assert __import__("re").search(says, answer.json()["error"]), answer.text
    assert dev.get("hostile").status_code == 404


def test_bodies_over_a_limit_and_odd_codings(dev: Registry):
    large = dev.put({"name": "hostile", "readme": "x" * (17 * 1024 * 1024)}, "hostile")
    assert large.status_code == 413
    coded = dev.ask(
        "PUT", "hostile", data=gzip.compress(json.dumps(SOUND).encode()), headers={"Content-Encoding": "gzip"}
    )
    assert coded.status_code == 400
    cut = json.dumps(SOUND)[:-100]
    assert dev.ask("PUT", "hostile", data=cut).status_code == 400
    assert dev.get("hostile").status_code == 404


def test_names_are_checked_where_they_come_in(dev: Registry):
    for name in ("Upper", "_x", ".x", "node_modules", "a" * 215):
        assert dev.ask("PUT", name, json=packages.publish_document(name, "1.0.0")).status_code in (400, 404), name
    for path in ("@a/..%2f..%2fetc", "a%5cb", "%2e%2e/x", "a%00b"):
        assert dev.get(path).status_code in (400, 404)


def test_a_large_package_costs_little_memory(dev: Registry):
    content = __import__("random").Random(7).randbytes(48 * 1024 * 1024)
    body = packages.tarball("large", "1.0.0", files={"data.bin": content})
    document = json.dumps(packages.publish_document("large", "1.0.0", body)).encode()
    assert dev.server.process is not None
    with MemoryWatch(descendants(dev.server.process.pid)) as watch:
        answer = dev.ask("PUT", "large", data=document, headers={"Content-Type": "application/json"})
        assert answer.status_code == 201, answer.text
        assert hashlib.sha256(dev.get("large/-/large-1.0.0.tgz").content).digest() == hashlib.sha256(body).digest()
    assert max(watch.growth_bytes.values()) < 40 * 1024 * 1024


def test_files_have_ranges_and_heads(dev: Registry):
    body = packages.tarball("ranged", "1.0.0", files={"x": bytes(range(256)) * 100})
    dev.publish("ranged", "1.0.0", body)
    path = "ranged/-/ranged-1.0.0.tgz"
    head = dev.ask("HEAD", path)
    assert (head.headers["Content-Length"], head.headers["Accept-Ranges"]) == (str(len(body)), "bytes")
    assert head.headers["Content-Type"] == "application/octet-stream"
    part = dev.get(path, headers={"Range": "bytes=-10"})
    assert (part.status_code, part.content) == (206, body[-10:])
    assert dev.get(path, headers={"If-None-Match": head.headers["ETag"]}).status_code == 304


def test_deprecating_and_its_end(dev: Registry):
    dev.publish("worn", "1.0.0")
    dev.publish("worn", "1.1.0")
    document = dev.document("worn")
    document["versions"]["1.0.0"]["deprecated"] = "use 1.1"
    document["versions"]["1.0.0"]["dist"] = {"tarball": "https://evil.invalid/x.tgz"}
    document["versions"]["6.6.6"] = document["versions"]["1.1.0"]
    assert dev.put(document, "worn").status_code == 201
    after = dev.document("worn")
    assert after["versions"]["1.0.0"]["deprecated"] == "use 1.1"
    assert "deprecated" not in after["versions"]["1.1.0"]
    assert after["versions"]["1.0.0"]["dist"]["tarball"].startswith(dev.url)
    assert set(after["versions"]) == {"1.0.0", "1.1.0"}
    assert after["_rev"] != document["_rev"]
    short = dev.get("worn", headers={"Accept": ABBREVIATED}).json()
    assert short["versions"]["1.0.0"]["deprecated"] == "use 1.1"
    assert dev.put(document, "worn").status_code == 409  # the old revision
    after["versions"]["1.0.0"]["deprecated"] = ""
    assert dev.put(after, "worn").status_code == 201
    assert "deprecated" not in dev.document("worn")["versions"]["1.0.0"]


def test_unpublishing_one_version_and_then_all(dev: Registry):
    body = packages.tarball("gone", "1.0.0")
    dev.publish("gone", "1.0.0", body)
    dev.publish("gone", "1.1.0")
    document = dev.document("gone")
    stale = document["_rev"]
    del document["versions"]["1.1.0"]
    assert dev.ask("PUT", f"gone/-rev/{stale}", json=document).status_code == 200
    assert dev.ask("PUT", f"gone/-rev/{stale}", json=document).status_code == 409
    after = dev.document("gone")
    assert after["dist-tags"] == {"latest": "1.0.0"}
    rev = after["_rev"]
    assert dev.ask("DELETE", f"gone/-/gone-1.1.0.tgz/-rev/{rev}").status_code == 200
    assert dev.get("gone/-/gone-1.1.0.tgz").status_code == 404
    assert dev.ask("DELETE", f"gone/-rev/{stale}").status_code == 409
    assert dev.ask("DELETE", f"gone/-rev/{rev}").status_code == 200
    assert dev.get("gone").status_code == 404
    # The same bytes may come back, others never.
    assert dev.publish("gone", "1.0.0", packages.tarball("gone", "1.0.0", files={"x": b""})).status_code == 403
    assert dev.publish("gone", "1.0.0", body).status_code == 201


def test_a_document_without_versions_removes_nothing(dev: Registry):
    dev.publish("kept", "1.0.0")
    rev = dev.document("kept")["_rev"]
    assert dev.ask("PUT", f"kept/-rev/{rev}", json={"versions": {}}).status_code == 400
    assert dev.ask("PUT", f"kept/-rev/{rev}", json={"_rev": rev, "maintainers": [{"name": "admin"}]}).status_code == 200
    refused = dev.ask("PUT", f"kept/-rev/{rev}", json={"_rev": rev, "maintainers": [{"name": "mallory"}]})
    assert (refused.status_code, "owners" in refused.json()["error"]) == (403, True)
    assert dev.versions("kept") == ["1.0.0"]


def test_tags(dev: Registry):
    dev.publish("tagged", "1.0.0")
    dev.publish("tagged", "2.0.0-beta.1", tags=("beta",))
    path = "-/package/tagged/dist-tags"
    assert dev.get(path).json() == {"latest": "1.0.0", "beta": "2.0.0-beta.1"}
    assert dev.ask("PUT", f"{path}/next", json="2.0.0-beta.1").status_code == 201
    assert dev.ask("POST", f"{path}/old", json="1.0.0").status_code == 201
    assert dev.get("tagged/next").json()["version"] == "2.0.0-beta.1"
    assert dev.ask("DELETE", f"{path}/next").status_code == 201
    assert dev.ask("DELETE", f"{path}/next").status_code == 404
    assert dev.ask("DELETE", f"{path}/latest").status_code == 400
    assert dev.ask("PUT", f"{path}/stable", json="9.9.9").status_code == 404
    assert dev.ask("PUT", f"{path}/stable", json={"a": 1}).status_code == 400
    assert dev.ask("PUT", f"{path}/1.0.0", json="1.0.0").status_code == 400
    assert dev.ask("PUT", path, json={"latest": "1.0.0", "only": "1.0.0"}).status_code == 201
    assert dev.get(path).json() == {"latest": "1.0.0", "only": "1.0.0"}


def test_latest_is_there_whatever_tags_there_are(dev: Registry):
    dev.publish("untagged", "1.0.0-beta.1", tags=("beta",))
    assert dev.document("untagged")["dist-tags"]["latest"] == "1.0.0-beta.1"
    dev.publish("untagged", "0.9.0", tags=("old",))
    assert dev.document("untagged")["dist-tags"]["latest"] == "0.9.0"


def test_promotion_carries_the_signature_along(server: Server, dev: Registry, token: str):
    dev.publish("@promoted/demo", "1.0.0")
    promoted = requests.post(
        f"{server.url}/api/v1/domains/default/repositories/dev/packages/npm/demo/versions/1.0.0/promote",
        params={"namespace": "promoted"},
        json={"target": "prod"},
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    )
    assert promoted.status_code < 300, promoted.text
    there = Registry(server, "prod", token).document("@promoted/demo")
    here = dev.document("@promoted/demo")
    assert there["dist-tags"] == {"latest": "1.0.0"}
    mine, theirs = (document["versions"]["1.0.0"]["dist"] for document in (here, there))
    assert theirs.pop("tarball") == mine.pop("tarball").replace("/dev/", "/prod/")
    assert theirs == mine
    assert server.fsck() == ""


def test_errors_are_json_with_the_words_in_error(server: Server, dev: Registry):
    for answer, status in (
        (dev.get("-/no/such/thing"), 404),
        (dev.ask("PATCH", "x"), 404),
        (dev.get("no-such-package-at-all"), 404),
        (requests.get(f"{dev.url}x", timeout=10), 401),
        (requests.get(f"{dev.url}x", headers={"Authorization": "Bearer ent_wrong"}, timeout=10), 401),
        (requests.get(f"{server.url}/npm/default/nowhere/x", timeout=10), 401),
        (Registry(server, "nowhere", dev.token).get("x"), 404),
    ):
        assert answer.status_code == status
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json()["error"]
        challenge = answer.headers.get("WWW-Authenticate", "")
        # npm explains the first scheme: of Basic it says that a password is wrong.
        assert (challenge.startswith("Bearer "), "Basic" in challenge) == ((status == 401),) * 2


def test_rights(server: Server, dev: Registry):
    reader = Registry(server, "dev", server.token("admin", "read"))
    dev.publish("guarded", "1.0.0")
    rev = dev.document("guarded")["_rev"]
    assert reader.get("guarded").status_code == 200
    for method, path, body in (
        ("PUT", "guarded", packages.publish_document("guarded", "1.1.0")),
        ("PUT", f"guarded/-rev/{rev}", {"versions": {}}),
        ("DELETE", f"guarded/-rev/{rev}", None),
        ("DELETE", f"guarded/-/guarded-1.0.0.tgz/-rev/{rev}", None),
        ("PUT", "-/package/guarded/dist-tags/x", "1.0.0"),
        ("DELETE", "-/package/guarded/dist-tags/x", None),
    ):
        assert reader.ask(method, path, json=body).status_code == 403, path
    elsewhere = Registry(server, "dev", server.token("admin", "read", repositories=("default/prod",)))
    assert elsewhere.get("guarded").status_code == 403


def test_documents_are_rendered_for_the_address_they_were_asked_by(dev: Registry):
    dev.publish("addressed", "1.0.0")
    mine = dev.get("addressed").json()["versions"]["1.0.0"]["dist"]["tarball"]
    other = dev.get("addressed", headers={"Host": "other.example:81"}).json()["versions"]["1.0.0"]["dist"]["tarball"]
    assert other == "http://other.example:81/npm/default/dev/addressed/-/addressed-1.0.0.tgz"
    assert dev.get("addressed").json()["versions"]["1.0.0"]["dist"]["tarball"] == mine
    forwarded = dev.get("addressed", headers={"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"})
    assert "evil" not in forwarded.text


# --- upstreams -------------------------------------------------------------------------------------------------------


def test_through_the_upstream(dev: Registry, upstream: FaultyUpstream):
    signatures = [{"keyid": "SHA256:theirs", "sig": "MEUC"}]
    tarballs = {version: packages.tarball("@far/away", version) for version in ("1.0.0", "2.0.0")}
    upstream.add_npm_package("@far/away", tarballs, tags={"latest": "1.0.0", "next": "2.0.0"}, signatures=signatures)
    document = dev.document("@far/away")
    assert document["dist-tags"] == {"latest": "1.0.0", "next": "2.0.0"}
    assert document["versions"]["1.0.0"]["dist"]["signatures"] == signatures
    assert document["time"]["created"] == "2020-01-01T00:00:00.000Z"
    assert dev.get("@far%2faway/2.0.0").json()["dist"]["signatures"] == signatures
    assert dev.get("@far/away/-/away-1.0.0.tgz").content == tarballs["1.0.0"]
    assert dev.get("@far/away/-/away-1.0.0.tgz", headers={"Range": "bytes=0-3"}).content == tarballs["1.0.0"][:4]
    # What is kept of it changes nothing that is said of it.
    assert dev.get("@far%2faway/1.0.0").json()["dist"]["signatures"] == signatures
    assert upstream.count("/npm/@far/away/-/away-1.0.0.tgz") == 1
    assert upstream.count("/npm/@far%2fAway") == 0


def test_a_tarball_with_another_digest_never_arrives(dev: Registry, upstream: FaultyUpstream):
    upstream.add_npm_package("altered", {"1.0.0": packages.tarball("altered", "1.0.0", files={"x": bytes(300_000)})})
    upstream.serve(
        "/npm/altered/-/altered-1.0.0.tgz", packages.tarball("altered", "1.0.0", files={"x": b"evil" * 70_000})
    )
    with pytest.raises(requests.RequestException):
        dev.get("altered/-/altered-1.0.0.tgz").raise_for_status()


def test_a_published_name_hides_the_outside(dev: Registry, public: Registry, upstream: FaultyUpstream):
    """C9."""
    upstream.add_npm_package("corp-lib", {"99.0.0": packages.tarball("corp-lib", "99.0.0")})
    dev.publish("corp-lib", "1.0.0")
    assert dev.versions("corp-lib") == ["1.0.0"]
    assert dev.get("corp-lib/-/corp-lib-99.0.0.tgz").status_code == 404
    assert dev.get("corp-lib/99.0.0").status_code == 404
    assert public.versions("corp-lib") == ["99.0.0"]  # control: where it is not published


def test_a_name_from_outside_cannot_be_published_or_changed(dev: Registry, upstream: FaultyUpstream):
    upstream.add_npm_package("theirs", {"1.0.0": packages.tarball("theirs", "1.0.0")})
    assert dev.get("theirs/-/theirs-1.0.0.tgz").status_code == 200
    assert dev.publish("theirs", "2.0.0").status_code == 403
    document = dev.document("theirs")
    document["versions"]["1.0.0"]["deprecated"] = "no"
    assert dev.put(document, "theirs").status_code == 403
    assert dev.ask("DELETE", f"theirs/-rev/{document['_rev']}").status_code == 403
    assert dev.ask("PUT", "-/package/theirs/dist-tags/stable", json="1.0.0").status_code == 403


def test_an_outage_is_not_an_absence(dev: Registry, upstream: FaultyUpstream):
    upstream.add_npm_package("once-seen", {"1.0.0": packages.tarball("once-seen", "1.0.0")})
    assert dev.versions("once-seen") == ["1.0.0"]
    upstream.serve("/npm/broken", b"oops", status=503)
    upstream.serve("/npm/page", b"<!DOCTYPE html><html></html>", content_type="text/html")
    upstream.serve(
        "/npm/liar", json.dumps({"name": "somebody-else", "versions": {}}).encode(), content_type="application/json"
    )
    for name in ("broken", "page", "liar"):
        answer = dev.get(name)
        assert answer.status_code == 502, name
        assert answer.json()["error"]
        assert "Retry-After" in answer.headers
    assert dev.get("not-there").status_code == 404


def test_attestations_come_through(dev: Registry, upstream: FaultyUpstream):
    bundle = {"attestations": [{"predicateType": "https://slsa.dev/provenance/v1", "bundle": {"x": 1}}]}
    url = upstream.serve(
        "/npm/-/npm/v1/attestations/attested@1.0.0", json.dumps(bundle).encode(), content_type="application/json"
    )
    upstream.add_npm_package(
        "attested", {"1.0.0": packages.tarball("attested", "1.0.0")}, attestations={"url": url, "provenance": {}}
    )
    said = dev.get("attested/1.0.0").json()["dist"]["attestations"]
    assert said["url"] == f"{dev.url}-/npm/v1/attestations/attested@1.0.0"
    assert dev.get("-/npm/v1/attestations/attested@1.0.0").json() == bundle
    assert dev.get("-/npm/v1/attestations/attested@2.0.0").status_code == 404


def test_our_own_provenance_is_served(dev: Registry):
    body = packages.tarball("@proven/demo", "1.0.0")
    sha512 = hashlib.sha512(body).hexdigest()
    statement = {
        "subject": [{"name": "pkg:npm/%40proven/demo@1.0.0", "digest": {"sha512": sha512}}],
        "predicateType": "https://slsa.dev/provenance/v1",
    }
    bundle = {"dsseEnvelope": {"payload": base64.b64encode(json.dumps(statement).encode()).decode()}}
    document = packages.publish_document("@proven/demo", "1.0.0", body)
    text = json.dumps(bundle)
    document["_attachments"]["@proven/demo-1.0.0.sigstore"] = {"content_type": "x", "data": text, "length": len(text)}
    assert dev.put(document, "@proven/demo").status_code == 201
    said = dev.get("@proven%2fdemo/1.0.0").json()["dist"]["attestations"]
    path = said["url"].removeprefix(dev.url)
    assert dev.get(path).json()["attestations"] == [
        {"predicateType": "https://slsa.dev/provenance/v1", "bundle": bundle}
    ]
    statement["subject"][0]["digest"]["sha512"] = "00"
    bundle = {"dsseEnvelope": {"payload": base64.b64encode(json.dumps(statement).encode()).decode()}}
    other = packages.publish_document("@proven/demo", "1.0.1", packages.tarball("@proven/demo", "1.0.1"))
    other["_attachments"]["@proven/demo-1.0.1.sigstore"] = {"data": json.dumps(bundle), "length": 1}
    assert dev.put(other, "@proven/demo").status_code == 400


def test_keys_are_ours_and_theirs(dev: Registry):
    keys = dev.get("-/npm/v1/keys").json()["keys"]
    assert THEIR_KEY in keys
    assert len(keys) == 2


# --- what npm has commands for ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "says"),
    [
        *((method, "-/org/acme/user", "no organisations") for method in ("GET", "PUT", "DELETE")),
        ("PUT", "-/org/acme/team", "no organisations"),
        ("GET", "-/team/acme/devs/user", "no organisations"),
        ("PUT", "-/team/acme/devs/package", "no organisations"),
        ("POST", "-/package/@acme%2fdemo/access", "for a repository"),
        ("GET", "-/package/@acme%2fdemo/trust", "entrepot token new"),
        ("DELETE", "-/package/plain/trust/1", "entrepot token new"),
        ("GET", "-/stage", "promote"),
        ("POST", "-/stage/package/@acme%2fdemo", "promote"),
        ("POST", "-/stage/2c5ea4c0-4067-11e9-8bad-9b1deb4d3b7d/approve", "promote"),
        ("POST", "-/npm/v1/user", "your account's page"),
        ("POST", "-/npm/v1/hooks/hook", "pipeline"),
        ("GET", "-/_view/starredByUser?key=%22admin%22", "no stars"),
        ("PUT", "-/user/package/@acme%2fdemo/star", "no stars"),
        ("PUT", "-/package/bob/owners", "no owners"),
        ("GET", "-/user/org.couchdb.user:bob", "no owners"),
        ("GET", "-/user/nobody-here/package", "no account nobody-here"),
    ],
)
def test_what_is_done_elsewhere_is_said_and_not_called_missing(dev: Registry, method: str, path: str, says: str):
    answer = dev.ask(method, path, json={} if method != "GET" else None)
    assert answer.status_code == 400
    assert says in answer.json()["error"]
    # npm asks for this first, and for "-/user/<name>/package" only after it is told that there is no such thing.
    assert dev.get("-/org/admin/package").status_code == 404


def test_stars_change_nothing(dev: Registry):
    dev.publish("starry", "1.0.0")
    document = dev.document("starry")
    for sent in ({"_id": "starry", "_rev": document["_rev"]}, document):  # npm's and pnpm's way
        assert "no stars" in dev.put({**sent, "users": {"admin": True}}, "starry").json()["error"]
    assert dev.put({**document, "users": {}}, "starry").status_code == 201
    document = dev.document("starry")
    assert dev.document("starry") == document


def test_rights_in_the_words_of_npm_access(server: Server, dev: Registry, upstream: FaultyUpstream):
    dev.publish("@righted/demo", "1.0.0")
    upstream.add_npm_package("righted-far", {"1.0.0": packages.tarball("righted-far", "1.0.0")})
    assert dev.get("righted-far/-/righted-far-1.0.0.tgz").status_code == 200
    held = dev.get("-/user/admin/package").json()
    assert (held["@righted/demo"], held["righted-far"]) == ("write", "read")
    readers = Registry(server, "dev", server.token("admin", "read"))
    assert set(readers.get("-/user/admin/package").json().values()) == {"read"}
    assert dev.get("-/package/@righted%2fdemo/collaborators").json()["admin"] == "write"
    assert readers.get("-/package/@righted%2fdemo/collaborators").status_code == 403
    # What others may do is not everybody's to know.
    onlooker = {"name": "onlooker", "actions": ["read"]}
    headers = {"Authorization": f"Bearer {dev.token}"}
    assert requests.post(f"{server.url}/api/v1/users", json=onlooker, headers=headers, timeout=60).status_code == 201
    assert dev.get("-/user/onlooker/package").json()["@righted/demo"] == "read"
    assert readers.get("-/user/onlooker/package").status_code == 403
    assert dev.get("-/package/@righted%2fdemo/visibility").json() == {"public": False}
    assert dev.get("-/package/@righted%2fnone/visibility").status_code == 404


def test_a_one_time_password_is_taken_and_ignored(dev: Registry):
    document = packages.publish_document("with-otp", "1.0.0")
    assert dev.ask("PUT", "with-otp", json=document, headers={"npm-otp": "123456"}).status_code == 201
    assert dev.versions("with-otp") == ["1.0.0"]


# --- advisories ------------------------------------------------------------------------------------------------------


def test_an_audit_names_nothing_that_is_ours(dev: Registry, upstream: FaultyUpstream):
    advisory = {
        "id": 1,
        "url": "https://example.invalid",
        "title": "t",
        "severity": "high",
        "vulnerable_versions": "<2",
    }
    upstream.serve(
        "/npm/-/npm/v1/security/advisories/bulk",
        json.dumps({"outside": [advisory], "@secret/plan": [advisory]}).encode(),
        content_type="application/json",
    )
    dev.publish("@secret/plan", "1.0.0")
    question = json.dumps({"outside": ["1.0.0"], "@secret/plan": ["1.0.0"], "../x": ["1"]}).encode()
    for body, headers in ((question, {}), (gzip.compress(question), {"Content-Encoding": "gzip"})):
        answer = dev.ask("POST", "-/npm/v1/security/advisories/bulk", data=body, headers=headers)
        assert answer.json() == {"outside": [advisory]}
    asked = [json.loads(seen.body) for seen in upstream.requests if seen.path.endswith("/advisories/bulk")]
    assert asked == [{"outside": ["1.0.0"]}] * 2
    only_ours = dev.ask("POST", "-/npm/v1/security/advisories/bulk", json={"@secret/plan": ["1.0.0"]})
    assert only_ours.json() == {}
    assert len([seen for seen in upstream.requests if seen.path.endswith("/advisories/bulk")]) == 2


def test_an_audit_of_the_older_kind(dev: Registry, upstream: FaultyUpstream):
    dev.publish("@secret/quick", "1.0.0")
    tree = {
        "name": "our-project",
        "version": "1.0.0",
        "requires": {"outside": "^1", "@secret/quick": "^1"},
        "dependencies": {
            "outside": {
                "version": "1.0.0",
                "requires": {"@secret/quick": "1"},
                "dependencies": {"@secret/quick": {"version": "1"}},
            },
            "@secret/quick": {"version": "1.0.0"},
        },
    }
    for path in ("-/npm/v1/security/audits/quick", "-/npm/v1/security/audits"):
        answer = dev.ask("POST", path, json=tree).json()
        assert answer["metadata"]["vulnerabilities"] == dict.fromkeys(
            ("info", "low", "moderate", "high", "critical"), 0
        )
    posted = b"".join(seen.body for seen in upstream.requests if seen.method == "POST" and "audits" in seen.path)
    assert b"outside" in posted
    assert b"secret" not in posted
    assert b"our-project" not in posted


def test_an_upstream_without_audits_is_no_sick_one(dev: Registry, upstream: FaultyUpstream):
    path = "/npm/-/npm/v1/security/advisories/bulk"
    upstream.serve(path, b"no such method", status=405)
    before = dev.server.log_text().count("warning")
    for _ in range(8):
        answer = dev.ask("POST", path.removeprefix("/npm/"), json={"outside": ["1.0.0"]})
        assert (answer.status_code, answer.json()) == (200, {})
    assert dev.server.log_text().count("warning") == before
    upstream.add_npm_package("after-audits", {"1.0.0": packages.tarball("after-audits", "1.0.0")})
    assert dev.versions("after-audits") == ["1.0.0"]


def test_states_of_a_package(server: Server, dev: Registry):
    dev.publish("stated", "1.0.0")

    def become(status: str) -> None:
        answer = requests.put(
            f"{server.url}/api/v1/domains/default/repositories/dev/packages/npm/stated/status",
            json={"status": status, "reason": "because"},
            headers={"Authorization": f"Bearer {dev.token}"},
            timeout=30,
        )
        assert answer.status_code < 300, answer.text

    become("deprecated")
    assert dev.document("stated")["versions"]["1.0.0"]["deprecated"] == "because"
    become("archived")
    assert "deprecated" not in dev.document("stated")["versions"]["1.0.0"]
    assert dev.publish("stated", "1.1.0").status_code == 403
    become("quarantined")
    assert dev.get("stated").status_code == 404
    assert dev.get("stated/-/stated-1.0.0.tgz").status_code == 403


def test_hostile_audits(dev: Registry):
    path = "-/npm/v1/security/advisories/bulk"
    bomb = gzip.compress(b" " * (64 * 1024 * 1024))
    assert dev.ask("POST", path, data=bomb, headers={"Content-Encoding": "gzip"}).status_code == 413
    assert dev.ask("POST", path, data=b"\x1f\x8b\x08", headers={"Content-Encoding": "gzip"}).status_code == 400
    assert dev.ask("POST", path, data=b"x", headers={"Content-Encoding": "br"}).status_code == 400
    assert dev.ask("POST", path, data=b" " * (3 * 1024 * 1024)).status_code == 413
    assert dev.ask("POST", path, json=[]).status_code == 400
    deep: dict[str, Any] = {"version": "1"}
    for _ in range(300):
        deep = {"version": "1", "dependencies": {"x": deep}}
    assert dev.ask("POST", "-/npm/v1/security/audits/quick", json=deep).status_code == 400


# --- people ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alice(server: Server) -> str:
    """A user with a password; gives the password."""
    secret = "correct horse battery"
    with requests.Session() as browser:
        sign_in(browser, server)
        form = {"csrf_token": csrf(browser, f"{server.url}/account/password"), "password": secret, "again": secret}
        browser.post(f"{server.url}/account/password", data=form, timeout=30).raise_for_status()
    return secret


def csrf(browser: requests.Session, url: str) -> str:
    import re

    page = browser.get(url, timeout=30).text
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found, page
    return found[1]


def sign_in(browser: requests.Session, server: Server) -> None:
    link = server.command("user", "login-link", "admin", "--data", str(server.data)).stdout
    browser.get(f"{server.url}/setup", params={"code": link.strip().rpartition("code=")[2]}, timeout=30)
    browser.post(f"{server.url}/setup", timeout=30).raise_for_status()


def couch(server: Server, user: str, password: str, **changes: Any) -> requests.Response:
    body = {"_id": f"org.couchdb.user:{user}", "name": user, "password": password, "type": "user", **changes}
    return requests.put(f"{server.url}/npm/default/dev/-/user/org.couchdb.user:{user}", json=body, timeout=30)


def test_signing_in_with_a_password_and_out(server: Server, alice: str):
    answer = couch(server, "admin", alice)
    assert answer.status_code == 201
    mine = Registry(server, "dev", answer.json()["token"])
    assert mine.get("-/whoami").json() == {"username": "admin"}
    assert mine.get("-/npm/v1/user").json()["name"] == "admin"
    wrong = couch(server, "admin", "wrong password!")
    assert (wrong.status_code, wrong.headers["WWW-Authenticate"].startswith("Basic ")) == (401, True)
    assert couch(server, "admin", alice, name="root").status_code == 400
    assert couch(server, "nobody-here", "wrong password!").status_code == 401
    assert mine.ask("DELETE", f"-/user/token/{mine.token}").status_code == 200
    assert mine.get("-/whoami").status_code == 401
    assert mine.token not in server.log_text()


def test_tokens(server: Server, alice: str):
    parent = Registry(server, "dev", couch(server, "admin", alice).json()["token"])
    assert parent.ask("POST", "-/npm/v1/tokens", json={"password": "wrong password!"}).status_code == 400
    limits = {"cidr_whitelist": ["10.0.0.0/8"], "packages": ["left-pad"], "scopes": ["@acme"]}
    made = parent.ask("POST", "-/npm/v1/tokens", json={"password": alice, **limits}).json()
    assert (made["cidr_whitelist"], made["packages"]) == (["10.0.0.0/8"], ["npm/left-pad", "npm/acme/*"])
    assert Registry(server, "dev", made["token"]).get("-/whoami").status_code == 403  # this machine is in none of them
    for wrong in ({"cidr_whitelist": ["everywhere"]}, {"packages": "left-pad"}, {"orgs": ["acme"]}):
        assert parent.ask("POST", "-/npm/v1/tokens", json={"password": alice, **wrong}).status_code == 400
    odd = {"password": alice, "packages_and_scopes_permission": "no-access"}
    assert parent.ask("POST", "-/npm/v1/tokens", json=odd).status_code == 400
    made = parent.ask("POST", "-/npm/v1/tokens", json={"password": alice, "readonly": True}).json()
    child = Registry(server, "dev", made["token"])
    assert child.get("-/whoami").status_code == 200
    assert child.publish("by-child", "1.0.0").status_code == 403
    listed = {entry["key"]: entry for entry in parent.get("-/npm/v1/tokens").json()["objects"]}
    assert listed[made["key"]]["readonly"] is True
    assert made["token"] not in json.dumps(listed)
    grandchild = child.ask("POST", "-/npm/v1/tokens", json={"password": alice}).json()
    assert Registry(server, "dev", grandchild["token"]).publish("by-grandchild", "1.0.0").status_code == 403
    assert grandchild["expires"] <= made["expires"]
    assert parent.ask("DELETE", f"-/npm/v1/tokens/token/{made['key']}").status_code == 204
    assert child.get("-/whoami").status_code == 401
    for key in ("999999", "x", "-1", "9" * 40):
        assert parent.ask("DELETE", f"-/npm/v1/tokens/token/{key}").status_code == 404


def test_signing_in_with_a_browser(server: Server):
    begun = requests.post(f"{server.url}/npm/default/dev/-/v1/login", json={"hostname": "laptop"}, timeout=30).json()
    waiting = requests.get(begun["doneUrl"], timeout=30)
    assert (waiting.status_code, waiting.headers["Retry-After"]) == (202, "2")
    stranger = requests.get(begun["loginUrl"], timeout=30, allow_redirects=False)
    assert (stranger.status_code, "/sign-in?next=" in stranger.headers["Location"]) == (303, True)
    with requests.Session() as browser:
        sign_in(browser, server)
        page = browser.get(begun["loginUrl"], timeout=30).text
        assert "127.0.0.1" in page
        code = begun["loginUrl"].rpartition("code=")[2]
        form = {"code": code, "csrf_token": csrf(browser, begun["loginUrl"])}
        forged = browser.post(f"{server.url}/sign-in/client", data={**form, "csrf_token": "x"}, timeout=30)
        assert forged.status_code == 403
        assert requests.get(begun["doneUrl"], timeout=30).status_code == 202
        assert "is let in" in browser.post(f"{server.url}/sign-in/client", data=form, timeout=30).text
        assert browser.post(f"{server.url}/sign-in/client", data=form, timeout=30).status_code == 404
    told = requests.get(begun["doneUrl"], timeout=30)
    assert told.status_code == 200
    assert Registry(server, "dev", told.json()["token"]).get("-/whoami").json() == {"username": "admin"}
    assert requests.get(begun["doneUrl"], timeout=30).status_code == 404
    assert requests.get(f"{server.url}/npm/default/dev/-/v1/done?session=x", timeout=30).status_code == 404


def test_search(dev: Registry):
    dev.publish("@searched/needle", "1.0.0")
    dev.publish("needle-thread", "2.0.0")
    found = dev.get("-/v1/search", params={"text": "needle", "size": 20}).json()
    assert {entry["package"]["name"] for entry in found["objects"]} == {"@searched/needle", "needle-thread"}
    assert {entry["package"]["version"] for entry in found["objects"]} == {"1.0.0", "2.0.0"}
    assert dev.get("-/v1/search", params={"text": "needle", "size": 1, "from": 1}).json()["total"] == 2
    assert dev.get("-/v1/search", params={"text": "@searched"}).json()["total"] == 1
    assert dev.get("-/v1/search", params={"text": "% _"}).json()["objects"] == []


def test_the_page_of_a_package_from_outside_shows_what_its_tarball_says(
    server: Server, dev: Registry, upstream: FaultyUpstream
):
    upstream.add_npm_package("paged-far", {"1.0.0": packages.tarball("paged-far", "1.0.0", license="MIT")})
    dev.get("paged-far/-/paged-far-1.0.0.tgz").raise_for_status()
    with requests.Session() as browser:
        sign_in(browser, server)
        page = browser.get(f"{server.url}/packages/default/dev/npm/paged-far", timeout=30)
    assert ("A package for tests." in page.text, "MIT" in page.text) == (True, True)


def test_the_page_of_a_package(server: Server, dev: Registry):
    body = packages.tarball(
        "@paged/demo", "1.0.0", dependencies={"ms": "^2.0.0"}, license="MIT", engines={"node": ">=18"}
    )
    dev.publish("@paged/demo", "1.0.0", body)
    with requests.Session() as browser:
        sign_in(browser, server)
        page = browser.get(f"{server.url}/packages/default/dev/npm/@paged/demo", timeout=30)
        assert page.status_code == 200
        for text in (
            "A package for tests.",
            "ms ^2.0.0",
            "MIT",
            "node &gt;=18",
            "npm install --registry",
            "pnpm add",
            "yarn add",
        ):
            assert text in page.text, text


def test_nothing_is_wrong_at_the_end(server: Server):
    assert server.fsck() == ""
    assert "request failed" not in server.log_text()
