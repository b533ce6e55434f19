"""The rotation's own SQL, and its migration, on both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, select, text

from config import first_start, wiring
from config.settings import load
from hooks.models.build import Build, BuildProject
from registry.clock import system_clock
from registry.models import Blob, DomainKey, Package, PackageVersion, Repository
from registry.names import PackageKey, PackageName
from registry.repos import care, descriptions, key_destruction, key_use, shelf
from registry.repos.rotation import BATCH, Work
from registry.repos.signing import Signer
from registry.stores import handle_of, require_key_in_use
from storage.encrypted import EncryptedStore
from storage.memory import MemoryStore
from tests import postgres
from tests.harness.packages import sha256

COUNT = BATCH + 20
NO_POSTGRES = pytest.mark.skipif(postgres.find_binaries() is None, reason="there is no PostgreSQL on this machine")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=NO_POSTGRES)])
def environment(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    if request.param == "sqlite":
        yield {}
        return
    with postgres.shared().fresh_database() as url:
        yield {"ENTREPOT_DATABASE_URL": url}


def test_rotation_counting_and_destruction(environment: dict[str, str], tmp_path: Path) -> None:
    settings = load(tmp_path / "data", environment)
    first_start.prepare(settings)
    db = wiring.database(settings)
    try:
        stores, fields = wiring.domain_stores(settings, db), wiring.sealed_fields()
        with db.read() as session:
            owners = key_use.owners(session)
        (domain,) = [owner for owner in owners if owner.domain_id is not None]
        bodies = EncryptedStore(MemoryStore(), stores.keyring(domain.domain_id), chunk_log2=12)
        handles = []
        for number in range(COUNT):
            pending = bodies.begin()
            pending.write(b"%d" % number)
            handles.append(pending.commit(sha256(b"%d" % number)))
        with db.write() as session:
            for handle in handles:
                shelf.ensure_blob(session, domain.domain_id, handle, system_clock())
        described = PackageKey("generic", "", PackageName("tool"))
        with db.write() as session:
            holder = session.scalars(select(Repository.id)).first()
            kept = Package(
                repository_id=holder, format="generic", name="tool", display_name="tool", origin="published",
                created_at=system_clock(),
            )  # fmt: skip
            session.add(kept)
            session.flush()
            version = PackageVersion(
                package_id=kept.id, version="1", display_version="1", metadata_={}, origin="published",
                description=descriptions.sealed(stores.keyring(domain.domain_id), described, "1", "What it is for"),
                published_at=system_clock(), published_by="a test",
            )  # fmt: skip
            session.add(version)
            session.flush()
            revision = version.revision
        signer = Signer(db, stores, system_clock)
        public = signer.public_key("test")
        log = wiring.LogStore(stores.server_keyring())
        with db.write() as session:
            now = system_clock()
            project = BuildProject(
                name="p",
                buildspec=None,
                environment={},
                timeout_minutes=1,
                created_at=now,
                updated_at=now,
            )
            session.add(project)
            session.flush()
            session.add(
                Build(
                    id="b1", project_id=project.id, number=1, status="IN_PROGRESS", phase="BUILD", phases=[], source={},
                    environment={}, timeout_minutes=1, variables={}, exported_variables={}, initiator="a test",
                    submitted_at=now,
                )
            )  # fmt: skip
            session.flush()
            for piece in range(3):
                log.append(session, "b1", piece * 5, b"piece")

        rotator = wiring.rotator(stores, db, system_clock)
        done = rotator.rotate(owners, Work("a test", wait=lambda _seconds: False))
        assert {one.owner.name: (one.moved, one.is_finished) for one in done} == {
            "default": (COUNT + 1, True),
            key_use.SERVER_NAME: (4, True),
        }
        with db.write() as session:
            (version,) = session.scalars(select(PackageVersion))
            assert version.revision == revision, "a copy that was asked for by its revision would be refused"
        with db.read() as session:
            uses = {owner.name: key_use.key_uses(session, stores, fields, owner) for owner in owners}
            assert log.read(session, "b1", 3, 8)[0] == b"cepiecep"
        states = {name: [(use.state, use.blobs + use.fields) for use in of_one] for name, of_one in uses.items()}
        assert states == {
            "default": [("retired", 0), ("current", COUNT + 1)],
            key_use.SERVER_NAME: [("retired", 0), ("current", 4)],
        }
        with db.read() as session:
            for blob in session.scalars(select(Blob)):
                assert sha256(b"".join(bodies.open(handle_of(blob)))) == blob.sha256
        assert Signer(db, stores, system_clock).public_key("test") == public
        with pytest.raises(Exception, match="rotated"), db.write() as session:
            require_key_in_use(session, handles[0])
        with db.write() as session:  # it has no files
            session.execute(delete(PackageVersion))
            session.execute(delete(Package))
        again = {"actor": "a test", "rest": key_destruction.REST * 0}
        for owner in owners:
            assert len(key_destruction.destroy_retired(db, stores, fields, owner, system_clock, **again)) == 1
        assert list(key_use.verify(db, stores, fields, domain, sample=None)) == []
        assert list(key_use.verify(db, stores, fields, domain, sample=5)) == []
        with db.write() as session:
            session.execute(
                text("UPDATE blob SET envelope = (SELECT envelope FROM blob b WHERE b.id = blob.id % 2 + 1)")
            )
        assert len(list(key_use.verify(db, stores, fields, domain, sample=None))) >= COUNT - 2  # the control
        assert key_destruction.shred(db, stores, fields, domain, system_clock, actor="a test") == COUNT
        assert [fault.invariant for fault in care.check(db, stores, deep=True)] == [care.SHREDDED]
        with db.read() as session:
            assert {bool(row.wrapped) for row in session.scalars(select(DomainKey)) if row.domain_id} == {False}
    finally:
        db.close()
