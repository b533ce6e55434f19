"""K2, K3, K4, K5, K6: what is altered is never served, keys that are missing lose nothing, destroyed ones lose it all."""

import base64
import json
import os
import shutil
import sqlite3
import time
from pathlib import Path

import pytest
import requests
from sqlalchemy import select, text, update

from config import wiring
from registry.errors import Unavailable
from registry.models import Blob, Domain, DomainKey
from registry.names import DomainName, RepositoryName
from registry.repos import care, key_destruction, key_use, topology
from registry.repos.rotation import Work
from registry.stores import handle_of
from storage import encrypted, keyring, sealing
from storage.blobs import BlobHandle
from storage.errors import Damaged, KeyDestroyed, KeyUnavailable, StorageError
from storage.keyfile import LocalKeyFile
from tests.functional.api_world import World
from tests.harness import packages
from tests.harness.publishing import file_url, publish
from tests.harness.server import Server

CHUNK = 1 << 12


@pytest.fixture
def world(tmp_path: Path):
    made = World(tmp_path / "world")
    yield made
    made.close()


def domain_of(world: World) -> int:
    with world.db.read() as session:
        return session.scalars(select(Domain.id)).one()


def served(world: World, filename: str) -> tuple[int, bytes]:
    """Status and body; a body that breaks off counts as what came of it, with status 0."""
    answer = world.http.get(
        f"/pypi/default/dev/files/{filename.split('-', maxsplit=1)[0]}/{filename}",
        headers={"Authorization": f"Bearer {world.tokens['reader']}"},
    )
    try:
        return answer.status_code, answer.data
    except StorageError:
        return 0, b""


def blob_rows(world: World) -> list[Blob]:
    with world.db.read() as session:
        return list(session.scalars(select(Blob).order_by(Blob.id)))


def body_path(world: World, row: Blob) -> Path:
    (path,) = [path for path in world.settings.blobs_path.rglob("*") if path.is_file() and row.locator in path.name]
    return path


def faults(world: World) -> list[tuple[str, str]]:
    return [(fault.invariant, fault.what) for fault in care.check(world.db, world.services.stores, deep=True)]


# --- K2 --------------------------------------------------------------------------------------------------------------


def test_K2_an_altered_body_is_never_served(world: World) -> None:
    world.publish("dev", "one", "1.0")
    filename = "one-1.0-py3-none-any.whl"
    (row,) = blob_rows(world)
    path = body_path(world, row)
    whole = path.read_bytes()
    right = served(world, filename)
    assert right == (200, f"bytes of {filename}".encode())
    for offset in (0, 3, 4, 6, len(whole) // 2, len(whole) - 17, len(whole) - 1):  # magic, version, chunk size, …, tag
        path.write_bytes(whole[:offset] + bytes((whole[offset] ^ 1,)) + whole[offset + 1 :])
        assert served(world, filename)[0] >= 500, offset
        assert [invariant for invariant, _ in faults(world)].count("I1") == 1
    for length in (0, 11, 12, len(whole) - 16, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert served(world, filename)[0] >= 500, length
    path.write_bytes(whole)
    assert served(world, filename) == right


def test_K2_chunks_swapped_and_cut_at_every_border(world: World) -> None:
    store = world.services.stores.of(domain_of(world))
    small = encrypted.EncryptedStore(world.services.stores.bodies, store._keyring, chunk_log2=12)
    pending = small.begin()
    plain = os.urandom(3 * CHUNK + 5)
    pending.write(plain)
    handle = pending.commit(packages.sha256(plain))
    (path,) = [each for each in world.settings.blobs_path.rglob("*") if handle.locator in each.name]
    whole = path.read_bytes()
    step, head = CHUNK + sealing.TAG_BYTES, 12
    parts = [whole[head + at : head + at + step] for at in range(0, len(whole) - head, step)]

    def read(body: bytes) -> bytes:
        path.write_bytes(body)
        got = b""
        try:
            for piece in small.open(handle):
                got += piece
        except Damaged:
            return got
        raise AssertionError("it was read to its end")

    for one, other in ((0, 1), (1, 2), (0, 2)):
        swapped = list(parts)
        swapped[one], swapped[other] = swapped[other], swapped[one]
        assert plain.startswith(read(whole[:head] + b"".join(swapped)))
    for count in range(len(parts)):
        assert plain.startswith(read(whole[:head] + b"".join(parts[:count])))
    path.write_bytes(whole)
    assert b"".join(small.open(handle)) == plain


def test_K2_envelopes_and_bodies_swapped_between_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        world.publish("dev", name, "1.0")
    first, second = blob_rows(world)

    def put(**values: object) -> None:
        with world.db.write() as session:
            session.execute(update(Blob).where(Blob.id == first.id).values(**values))

    put(envelope=second.envelope)
    assert served(world, "one-1.0-py3-none-any.whl")[0] >= 500
    with world.db.write() as session:  # the locator is unique
        session.execute(update(Blob).where(Blob.id == second.id).values(locator="elsewhere"))
    put(envelope=second.envelope, locator=second.locator)
    assert served(world, "one-1.0-py3-none-any.whl")[0] >= 500
    assert any(first.sha256 in what for _, what in faults(world))
    put(envelope=first.envelope[:3] + b"\0" + first.envelope[4:], locator=first.locator)  # a format byte of before
    assert served(world, "one-1.0-py3-none-any.whl")[0] >= 500
    put(envelope=first.envelope)
    assert served(world, "one-1.0-py3-none-any.whl")[0] == 200

    # The control: with envelopes that are bound to nothing, a row is given another's file.
    monkeypatch.setattr(encrypted, "_context", lambda *_: "nothing")
    store = world.services.stores.of(domain_of(world))
    handles = []
    for body in (b"a" * 9, b"b" * 9):
        pending = store.begin()
        pending.write(body)
        handles.append(pending.commit(packages.sha256(body)))
    moved = BlobHandle(handles[1].locator, handles[0].digest, 9, handles[1].envelope)
    assert b"".join(store.open(moved)) == b"b" * 9


# --- K3 --------------------------------------------------------------------------------------------------------------


def rotate(world: World, **options: object) -> list:
    stores = world.services.stores
    with world.db.read() as session:
        owners = [owner for owner in key_use.owners(session) if owner.domain_id is not None]
    work = Work("a test", wait=lambda _seconds: False, **options)
    return wiring.rotator(stores, world.db, lambda: world.now).rotate(owners, work)


def test_K3_a_process_that_slept_cannot_write_under_a_retired_key(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain_id = domain_of(world)
    slow = world.services.stores.of(domain_id)

    def received(body: bytes) -> BlobHandle:
        pending = slow.begin()
        pending.write(body)
        return pending.commit(packages.sha256(body))

    late, later = received(b"late"), received(b"later")  # encrypted before, with no row yet
    (done,) = rotate(world)
    assert done.is_finished
    from registry.repos import kept_rows, shelf

    for ensure in (shelf.ensure_blob, kept_rows.ensure_blob):
        with pytest.raises(Unavailable, match="rotated"), world.db.write() as session:
            ensure(session, domain_id, late, world.now)
    with world.db.write() as session:
        shelf.ensure_blob(session, domain_id, received(b"in time"), world.now)
    # The control: without the fence it is there, under a key that everybody believes unused.
    monkeypatch.setattr(shelf, "require_key_in_use", lambda *_: None)
    with world.db.write() as session:
        shelf.ensure_blob(session, domain_id, later, world.now)
        used = key_use.key_uses(session, world.services.stores, (), key_use.Owner(domain_id, "default"))
    assert [(use.state, use.blobs) for use in used] == [("retiring", 1), ("current", 1)]
    # Even so it is not lost: such a key is not destroyed, and the next rotation finds it.
    fields = wiring.sealed_fields()
    owner = key_use.Owner(domain_id, "default")
    args = (world.db, world.services.stores, fields, owner, lambda: world.now)
    assert key_destruction.destroy_retired(*args, actor="a test", rest=key_destruction.REST * 0) == []
    (again,) = rotate(world)
    assert (again.is_resumed, again.moved, again.is_finished) == (True, 1, True)
    assert len(key_destruction.destroy_retired(*args, actor="a test", rest=key_destruction.REST * 0)) == 1
    with world.db.read() as session:
        for blob in session.scalars(select(Blob)):
            assert b"".join(slow.open(handle_of(blob)))


def test_K3_every_sealed_field_is_wrapped_anew(world: World) -> None:
    world.publish("dev", "demo", "1.0", description="A long text")
    world.call("POST", "/domains/default/repositories/dev/connections", json={
        "format": "pypi", "name": "x", "url": "https://index.example/simple/", "user": "u", "secret": "p"})  # fmt: skip
    world.services.signer.public_key("npm")
    build_log = world.hooks.logs._sealer.seal(b"x", "c")
    with world.db.read() as session:
        (old,) = [row.id for row in session.scalars(select(DomainKey))]
    assert old.encode() in build_log
    (done,) = rotate(world)
    assert (done.is_finished, done.failed) == (True, [])
    with world.db.read() as session:
        tables = [(field.table.name, field.box) for field in wiring.sealed_fields()] + [("blob", "envelope")]
        for table, column in tables:
            for (box,) in session.execute(text(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL")):
                assert old.encode() not in bytes(box), table
    shown = world.call("GET", "/domains/default/repositories/dev/packages/pypi/demo/versions/1").json
    assert shown.get("description", "A long text") == "A long text"


def test_K3_an_unwrappable_old_key_is_503_for_its_own_and_nothing_else(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.publish("dev", "old", "1.0")
    world.publish("dev", "new", "1.0")
    domain_id = domain_of(world)
    stores = world.services.stores
    made = stores.made_key(domain_id)
    with world.db.write() as session:
        row = session.scalars(select(DomainKey)).one()
        session.add(
            DomainKey(id=made.id, domain_id=domain_id, wrapped=made.wrapped, created_at=world.now.replace(year=2027))
        )
        row.wrapped = row.wrapped[:-3] + bytes(3)
    fresh = wiring.services(world.settings, lambda: world.now)
    try:
        assert fresh.stores.keyring(domain_id).check().keys() == {row.id}
        new = fresh.stores.of(domain_id)
        pending = new.begin()
        pending.write(b"under the new key")
        handle = pending.commit(packages.sha256(b"under the new key"))
        assert b"".join(new.open(handle)) == b"under the new key"
        from config.app import create_app

        http = create_app(world.settings, fresh).test_client()
        answer = http.get(
            "/pypi/default/dev/files/old/old-1.0-py3-none-any.whl",
            headers={"Authorization": f"Bearer {world.tokens['reader']}"},
        )
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert str(world.settings.keys_path) not in answer.text
        assert str(world.settings.keys_path) in caplog.text  # the log says why
        index = http.get("/pypi/default/dev/simple/old/", headers={"Authorization": f"Bearer {world.tokens['reader']}"})
        assert index.status_code == 200
    finally:
        fresh.db.close()


# --- K4 --------------------------------------------------------------------------------------------------------------


def test_K4_no_nonce_comes_twice_in_processes_that_were_forked(tmp_path: Path) -> None:
    ring = keyring.Keyring(LocalKeyFile.create(tmp_path / "master.json"), "domain/1")
    ring.add(ring.new_key())

    def nonces(count: int) -> list[bytes]:
        return [ring.seal(b"", "c")[18:30] for _ in range(count)]

    reads = []
    for _ in range(3):
        read, write = os.pipe()
        if (pid := os.fork()) == 0:
            with os.fdopen(write, "wb") as out:
                out.write(b"".join(nonces(5000)))
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as stream:
            body = stream.read()
        os.waitpid(pid, 0)
        reads += [body[at : at + 12] for at in range(0, len(body), 12)]
    seen = [*reads, *nonces(5000)]
    assert len(seen) == 20_000 == len(set(seen))
    assert len({*seen, seen[0]}) != len([*seen, seen[0]])  # the control: a repeated one is noticed


# --- K5 --------------------------------------------------------------------------------------------------------------


def test_K5_a_copy_without_the_keys_is_unreadable_and_tells_none(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", with_worker=False).start()
    filename, body = packages.wheel("demo", "1.0", files={"secret.txt": b"canary-of-a-backup"})
    assert publish(server, server.token(), "demo", wheel=(filename, body)).status_code == 200
    assert server.stop() == 0
    master = json.loads((server.data / "keys" / "master-keys.json").read_text())
    secrets = [base64.b64decode(key) for key in master["keys"].values()]
    forms = [form for key in secrets for form in (key, key.hex().encode(), base64.b64encode(key))]
    copy = Server(tmp_path / "copy", with_worker=False)
    shutil.copytree(server.data, copy.data, ignore=shutil.ignore_patterns("keys", "run"))
    done = copy.command("serve", "--data", str(copy.data))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "put it back from your copy of the keys" in done.stderr
    shutil.copytree(server.data / "keys", copy.data / "keys", dirs_exist_ok=True)
    (copy.data / "keys" / "master-keys.json").unlink()
    LocalKeyFile.create(copy.data / "keys" / "master-keys.json")
    refused = copy.command("serve", "--data", str(copy.data))
    assert refused.returncode == 1
    assert "the wrong master key" in refused.stderr
    looked_at = [path for path in copy.data.rglob("*") if path.is_file()] + [server.log]
    assert not [path for path in looked_at if any(form in path.read_bytes() for form in forms)]
    assert not [path for path in copy.data.rglob("*") if path.is_file() and b"canary-of-a-backup" in path.read_bytes()]
    # The control: with its keys the copy is read.
    shutil.rmtree(copy.data / "keys")
    shutil.copytree(server.data / "keys", copy.data / "keys")
    try:
        copy.start()
        answer = requests.get(
            file_url(copy, "dev", "demo", filename), headers={"Authorization": f"Bearer {copy.token()}"}, timeout=20
        )
        assert answer.content == body
    finally:
        copy.kill()


# --- K6 --------------------------------------------------------------------------------------------------------------


def test_K6_a_shredded_domain_is_gone_everywhere(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", with_worker=False).start()
    try:
        token = server.token("admin")
        headers = {"Authorization": f"Bearer {token}"}
        filename, body = packages.wheel("demo", "1.0", description="A text that is sealed")
        assert publish(server, token, "demo", wheel=(filename, body)).status_code == 200
        url = file_url(server, "dev", "demo", filename)
        assert requests.get(url, headers=headers, timeout=20).content == body
        with sqlite3.connect(server.data / "entrepot.db") as rows:
            wrapped = [each for (each,) in rows.execute("SELECT wrapped FROM domain_key WHERE domain_id IS NOT NULL")]
        rows.close()
        assert any(each in (server.data / "entrepot.db").read_bytes() for each in wrapped)  # the control

        shredding = ("keys", "destroy", "--data", str(server.data), "--domain", "default")
        assert server.command(*shredding, "--confirm", "defualt").returncode == 1
        assert requests.get(url, headers=headers, timeout=20).status_code == 200
        done = server.command(*shredding, "--confirm", "default")
        assert done.returncode == 0, done.stderr
        time.sleep(keyring.FRESH_SECONDS + 0.5)  # promised: so long a process goes on with what it knows
        for _ in range(4):  # of either process
            answer = requests.get(url, headers=headers, timeout=20)
            assert (answer.status_code, "destroyed" in answer.text) == (410, True)
        assert publish(server, token, "late").status_code == 410
        assert server.stop() == 0
        for name in ("entrepot.db", "entrepot.db-wal", "entrepot.db-journal"):
            if (server.data / name).exists():
                assert not [each for each in wrapped if each in (server.data / name).read_bytes()]
        checked = server.command("fsck", "--data", str(server.data), "--deep")
        assert checked.returncode == 0, checked.stdout
        assert checked.stdout.startswith("shredded\tdomain default")
        told = json.loads(server.command("keys", "list", "--data", str(server.data), "--json").stdout)
        assert {key["state"] for key in told if key["domain"] == "default"} == {"destroyed"}
        assert server.command("keys", "rotate", "--data", str(server.data), "--domain", "default").returncode == 1
        assert server.command(*shredding, "--confirm", "default").returncode == 1
        server.start()  # and the server itself, whose signing keys were not the domain's, starts
        assert requests.get(url, headers=headers, timeout=20).status_code == 410
    finally:
        server.kill()


def test_K6_other_domains_and_the_servers_own_fields_are_kept(world: World) -> None:
    world.publish("dev", "demo", "1.0")
    domain_id, stores = domain_of(world), world.services.stores
    with world.db.write() as session:
        other = topology.create_domain(session, DomainName("other"), world.now)
        stores.new_key(session, other.id, world.now)
        topology.create_repository(session, other.id, RepositoryName("dev"), upstreams=(), now=world.now)
    pending = stores.of(other.id).begin()
    pending.write(b"of another domain")
    kept = pending.commit(packages.sha256(b"of another domain"))
    public = world.services.signer.public_key("npm")  # sealed under the first domain's key: this data has no other
    (row,) = blob_rows(world)
    copied = body_path(world, row).read_bytes()
    owner = key_use.Owner(domain_id, "default")
    args = (world.db, stores, wiring.sealed_fields(), owner, lambda: world.now)
    assert key_destruction.shred(*args, actor="a test") == 1
    body_path(world, row).write_bytes(copied)  # an older copy of the file helps nobody
    with pytest.raises(KeyDestroyed):
        list(stores.of(domain_id).open(handle_of(row)))
    assert b"".join(stores.of(other.id).open(kept)) == b"of another domain"
    again = wiring.services(world.settings, lambda: world.now)
    assert again.signer.public_key("npm") == public
    with pytest.raises(KeyUnavailable):
        list(again.stores.of(domain_id).open(handle_of(row)))
    again.db.close()
    assert ("a test", "keys.shred", "default") in world.audit()
