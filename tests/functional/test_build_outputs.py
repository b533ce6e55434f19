"""Artifacts and caches of real builds: made in a sandbox, kept encrypted, listed, downloaded, restored and let go of."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from config import wiring
from hooks import care as hooks_care
from hooks.builds.output_care import Retention, expire
from hooks.models import Build, BuildArtifact, BuildCache
from registry.models import Blob
from registry.repos import care
from registry.repos.key_use import Owner
from registry.repos.rotation import Work
from tests.build_bench import MISSING_SANDBOX
from tests.build_outputs import OutputWorld, output_world

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)

FAR = datetime.now(UTC) + timedelta(days=400)  # bodies are as old as the disk says
PLAIN = "these bytes are nobody's business"
SPEC = f"""version: 0.2
env: {{variables: {{OUT: dist}}}}
phases:
  build:
    commands:
    - VERSION=1.$((1 + 1))
    - mkdir -p dist/.hidden docs && echo "{PLAIN}" >dist/app.txt && touch dist/.hidden/x docs/readme.md
    - cd docs
artifacts:
  files: ['$OUT/**/*', nothing.txt]
  name: app-$VERSION/$(echo 'all in' one)
  secondary-artifacts:
    docs: {{files: ['*'], base-directory: docs, name: 'the docs'}}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutputWorld]:
    with output_world(tmp_path_factory.mktemp("outputs")) as made:
        yield made


@pytest.fixture(scope="module")
def built(world: OutputWorld) -> Build:
    build = world.build(SPEC)
    assert build.status == "SUCCEEDED", world.log_of(build)
    return build


def fetched(world: OutputWorld, build: Build, identifier: str = "primary", **headers: str):
    return world.call("GET", f"/builds/{build.id}/artifacts/{identifier}", as_="reader", headers=headers)


def test_names_files_and_digests_are_listed(world: OutputWorld, built: Build) -> None:
    listed = world.call("GET", f"/builds/{built.id}/artifacts", as_="reader").json["items"]
    assert [(one["artifactIdentifier"], one["name"], one["files"]) for one in listed] == [
        ("primary", "app-1.2/all in one", 2),
        ("docs", "the docs", 1),
    ]
    body = fetched(world, built).data
    assert listed[0]["size"] == len(body)
    assert listed[0]["sha256sum"] == hashlib.sha256(body).hexdigest()
    assert listed[0]["md5sum"] == hashlib.md5(body, usedforsecurity=False).hexdigest()
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.namelist() == ["dist/app.txt", "dist/.hidden/x"]
        assert archive.read("dist/app.txt").decode() == PLAIN + "\n"
    log = world.log_of(built)
    assert "Skipping: no file matches nothing.txt" in log
    assert f"SHA-256 {listed[0]['sha256sum']}" in log
    assert ("builds", "artifact.keep", f"build/{built.id}/docs") in world.audit()


def test_a_download_is_a_file_and_not_a_page(world: OutputWorld, built: Build) -> None:
    whole = fetched(world, built)
    assert whole.headers["Content-Disposition"] == 'attachment; filename="all in one.zip"'
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    assert whole.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    part = fetched(world, built, Range="bytes=2-9")
    assert (part.status_code, part.data) == (206, whole.data[2:10])
    assert fetched(world, built, If_None_Match=whole.headers["ETag"]).status_code == 304
    assert fetched(world, built, "nobody").status_code == 404
    for path in ("", "/primary", "/primary/members"):
        place = f"/builds/{built.id}/artifacts{path}"
        got = [world.call("GET", place, as_=who).status_code for who in (None, "stranger", "publisher", "approver")]
        assert got == [401, 404, 200, 200], path


def test_members_are_listed_page_by_page(world: OutputWorld, built: Build) -> None:
    path = f"/builds/{built.id}/artifacts/primary/members"
    first = world.call("GET", f"{path}?limit=1", as_="reader").json
    assert first == {"items": [{"name": "dist/app.txt", "size": len(PLAIN) + 1, "isLink": False}], "next": 1}
    rest = world.call("GET", f"{path}?after=1", as_="reader").json
    assert ([item["name"] for item in rest["items"]], rest["next"]) == (["dist/.hidden/x"], None)


def test_they_lie_encrypted_and_are_checked_swept_and_rotated_like_packages(world: OutputWorld, built: Build) -> None:
    body = fetched(world, built).data
    for path in world.settings.blobs_path.rglob("*"):
        assert not path.is_file() or body[:30] not in path.read_bytes()
    report = care.sweep(world.db, world.services.stores, older_than=FAR, dry_run=False)
    assert report.examined >= 2
    assert (report.deleted, report.failed) == (0, ())
    rotator = wiring.rotator(world.services.stores, world.db, world.services.clock)
    with world.db.read() as session:
        domain_id = session.scalars(select(Blob.domain_id).limit(1)).one()
    (done,) = rotator.rotate([Owner(domain_id, "default")], Work("admin", wait=lambda _seconds: False))
    assert done.is_finished
    assert done.moved >= 2
    assert fetched(world, built).data == body
    assert list(care.check(world.db, world.services.stores, deep=True)) == []
    assert hooks_care.check(world.db) == []
    with world.db.write() as session:
        session.scalars(select(BuildArtifact).limit(1)).one().sha256 = "0" * 64
    assert [invariant for invariant, _ in hooks_care.check(world.db)] == ["I1"]
    with world.db.write() as session:
        row, sha256 = session.execute(select(BuildArtifact, Blob.sha256).join(Blob).limit(1)).one()
        row.sha256 = sha256


@pytest.mark.long  # tests/unit/builds/test_archives.py has the same without a build
@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("files: nothing", "no matching artifact paths found"),
        ("files: '**/*'\n  discard-paths: yes", "discard-paths would put two files at same"),
        ("files: '**/*'\n  name: ../up", "an artifact cannot be called '../up'"),
    ],
)
def test_what_cannot_be_packed_fails_the_phase(world: OutputWorld, section: str, message: str) -> None:
    spec = (
        f"version: 0.2\nphases: {{build: {{commands: ['mkdir a b && touch a/same b/same']}}}}\nartifacts:\n  {section}"
    )
    build = world.build(spec, project="fails")
    assert build.status == "FAILED"
    (phase,) = [phase for phase in build.phases if phase["phaseType"] == "UPLOAD_ARTIFACTS"]
    assert phase["contexts"][0]["statusCode"] == "CLIENT_ERROR"
    assert phase["contexts"][0]["message"].startswith(message)
    assert world.call("GET", f"/builds/{build.id}/artifacts").json["items"] == []


CACHED = """version: 0.2
phases:
  build:
    commands:
    - cat deps/one ~/.m2/settings ~/.netrc 2>&1 || true
    - mkdir -p deps ~/.m2 && echo {value} >deps/one && echo {value} >~/.m2/settings && ln -sf one deps/link
    - echo {value} >lock
cache:
  paths: ['deps/**/*', '/root/.m2/**/*']
"""


def test_a_cache_without_a_key_is_written_anew_by_each_build(world: OutputWorld) -> None:
    first, second, third = (world.build(CACHED.format(value=f"v{number}"), project="plain") for number in range(3))
    assert "No cache found" in world.log_of(first)
    for build, value in ((second, "v0"), (third, "v1")):
        assert f"\n{value}\n{value}\n" in world.log_of(build), world.log_of(build)
        assert "3 files restored" in world.log_of(build)
    failing = CACHED.format(value="bad").replace("echo bad >lock", "exit 1")
    assert world.build(failing, project="plain").status == "FAILED"
    assert "\nv2\nv2\n" in world.log_of(world.build(CACHED.format(value="v3"), project="plain"))


def test_keys_are_exact_and_never_rewritten_and_fallbacks_find_the_newest(world: OutputWorld) -> None:
    keyed = CACHED + "  key: deps-$(codebuild-hash-files '**/lock' 2>/dev/null || echo none)-$SALT\n"
    keyed += "  fallback-keys: [other-, deps-]\n"

    def run(salt: str, value: str) -> str:
        spec = keyed.format(value=value).replace("phases:", f"env: {{variables: {{SALT: '{salt}'}}}}\nphases:", 1)
        world.now += timedelta(seconds=1)
        return world.log_of(world.build(spec, project="keyed"))

    assert "No cache found for key deps-none-a" in run("a", "v0")
    second = run("a", "v1")
    assert "Restoring cache deps-none-a, scope protected" in second
    assert "is not saved: it is there already" in second
    assert "\nv0\nv0\n" in run("a", "v2")
    third = run("b", "v3")
    assert "Restoring cache deps-none-a (by a fallback key)" in third
    assert "Saved the cache" in third
    assert "Restoring cache deps-none-b (by a fallback key)" in run("c", "v4")
    other_paths = keyed.replace("deps/**/*", "deps/*").format(value="v").replace("-$SALT", "-a")
    assert "No cache found" in world.log_of(world.build(other_paths, project="keyed"))


def test_what_is_over_its_time_goes_and_its_bytes_with_the_sweep(world: OutputWorld, built: Build) -> None:
    for _ in range(2):
        world.build(SPEC.replace("bytes", "octets"), project="counted")
    with world.db.read() as session:
        cached = session.scalar(select(func.count()).select_from(BuildCache))
    assert expire(world.db, Retention(artifact_days=0, artifact_count=0, cache_days=0), world.now) == (0, 0)
    assert expire(world.db, Retention(artifact_days=0, artifact_count=1), world.now, dry_run=True) == (2, 0)
    assert expire(world.db, Retention(artifact_days=0, artifact_count=1), world.now) == (2, 0)
    assert fetched(world, built).status_code == 200
    assert expire(world.db, Retention(), FAR) == (4, cached)
    assert fetched(world, built).status_code == 404
    care.sweep(world.db, world.services.stores, older_than=FAR, dry_run=False)
    assert list(world.services.stores.bodies.iterate())  # their grace begins when they are let go of
    care.sweep(world.db, world.services.stores, older_than=FAR + timedelta(days=1), dry_run=False)
    assert list(world.services.stores.bodies.iterate()) == []
    assert ("server", "artifact.expire", "server") in world.audit()
