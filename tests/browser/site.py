"""A whole site on a fresh SQLite file, with people, packages and a clock that tests set: what the page tests look at."""

import base64
import functools
import hashlib
import io
import secrets
import zipfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from flask import Flask
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hooks import pages as hook_pages
from hooks.builds import report_reading as reading
from hooks.builds import runners as runner_rows
from hooks.builds.attempts import BuildAttempts
from hooks.builds.batch_engine import groups_of
from hooks.builds.batch_parts import part_of, write_found
from hooks.builds.batches import start_batch
from hooks.builds.keeping import ArtifactName
from hooks.builds.logs import LogStore
from hooks.builds.phases import BuildStatus, Fault, Phase, PhaseRecord
from hooks.builds.records import finish_build
from hooks.builds.reports.model import FileCoverage
from hooks.builds.reports.result import ReportResult
from hooks.builds.runner_claims import RunnerClaims
from hooks.builds.runner_work import RunnerWork
from hooks.builds.source import PackageSource
from hooks.builds.spec import parse_buildspec
from hooks.builds.starting import Asked
from hooks.builds.stored_outputs import BuildPlace, OutputLimits, StoredOutputs
from hooks.deployments import agents as agent_rows
from hooks.deployments.agent_work import AgentWork
from hooks.deployments.parts import Parts as DeploymentParts
from hooks.deployments.platforms.dummy import DummyPlatform
from hooks.destinations.store import Destinations, DestinationSecret, Wanted
from hooks.models import MailAddress, WebhookAttempt, WebhookDelivery
from hooks.models.build import Build
from hooks.models.deployment import (
    Deployment,
    DeploymentApplication,
    DeploymentGroup,
    DeploymentInstallation,
    DeploymentTarget,
)
from hooks.models.job import Job, JobState
from hooks.models.report import TestCase
from hooks.notifications import endpoints, mail_subscriptions
from hooks.notifications.audience import Audience
from hooks.notifications.fanout import Fanout
from hooks.notifications.filters import Filter
from hooks.notifications.sending import Rules
from hooks.pipelines.approvals import Verdict, decide
from hooks.secret_store import reading as secret_reading
from hooks.secret_store import store
from hooks.secret_store.names import Kind
from hooks.services import HookServices, Notifications, RunnerServices
from hooks.triggers.collect import Coordinates
from hooks.triggers.start import start_manual
from registry import formats, granting, groups, pages
from registry.access import Identity
from registry.accounts import Accounts, account_scope, find_account
from registry.db import Database
from registry.http import auth, context, headers, problems
from registry.idempotency import Idempotency
from registry.leaks import LeakGuard
from registry.models import Asset, Blob, Domain, Package, PackageVersion, Repository
from registry.names import PackageKey, PackageName, RepositoryName
from registry.rates import RateLimits
from registry.repos import advisories, descriptions, quotas, topology
from registry.repos.admission import Admissions
from registry.repos.ahead import ReadAhead
from registry.repos.connections import Connections
from registry.repos.documents import DocumentCache
from registry.repos.fetch import Fetcher
from registry.repos.idle import IdleVersions
from registry.repos.keep import Files
from registry.repos.publish import Publisher
from registry.repos.resolve import Resolver
from registry.repos.signing import AGENT_COMMAND, Signer
from registry.repos.topology import TopologyCache
from registry.repos.upstreams import Upstreams
from registry.services import Services
from registry.stores import DomainStores
from registry.upstream.answers import Limits, Upstream
from registry.upstream.client import UpstreamClient
from registry.upstream.flight import SingleFlight
from registry.upstream.guard import AddressPolicy
from storage.filesystem import FileSystemStore
from storage.keyfile import LocalKeyFile
from tests.browser import corpus
from tests.build_jobs import Parts
from tests.fakes.deployed import HALF, Deployed
from tests.fakes.pipelines import World
from tests.report_bench import case, hand_in, result

PASSWORD = "correct horse battery staple"


@functools.cache
def password_hash() -> str:
    """The hash of everybody's password here, made once: it is slow on purpose."""
    return Accounts(b"").hash_password(PASSWORD)


PIPELINE = """\
name: release
stages:
  - name: Source
    actions:
    - name: Package
      actionTypeId: {category: Source, owner: Entrepot, provider: Package}
      namespace: src
      configuration: {Repository: dev, Format: pypi, Name: "acme-*", SettleSeconds: "0"}
  - name: Test
    actions:
    - name: UnitTests
      actionTypeId: {category: Build, owner: AWS, provider: CodeBuild, version: "1"}
      configuration: {ProjectName: tests}
  - name: Approve
    actions:
    - name: ReleaseManager
      actionTypeId: {category: Approval, provider: Manual}
      configuration: {CustomData: "Tried on the test cluster?", NotByPublisher: "true"}
  - name: Promote
    actions:
    - name: ToProd
      actionTypeId: {category: Deploy, owner: Entrepot, provider: Promote}
      configuration: {TargetRepository: prod}
"""


class AesSealer:
    """Seals as the server does: authenticated, and bound to its context."""

    def __init__(self) -> None:
        self._key = AESGCM(secrets.token_bytes(32))

    def seal(self, data: bytes, context: str) -> bytes:
        nonce = secrets.token_bytes(12)
        return nonce + self._key.encrypt(nonce, data, context.encode())

    def unseal(self, sealed: bytes, context: str) -> bytes:
        return self._key.decrypt(sealed[:12], sealed[12:], context.encode())


@dataclass
class Site:
    """The application with its parts, and shorthands to fill it."""

    app: Flask
    services: Services
    hook_services: HookServices
    world: World
    repositories: dict[str, int] = field(default_factory=dict)

    def clock(self) -> datetime:
        return self.world.now

    def person(self, name: str, actions: list[str], repositories: list[str] | None = None) -> int:
        with self.services.db.write() as session:
            account = self.services.accounts.create(
                session, name, actions=actions, repositories=repositories, now=self.clock()
            )
            account.password_hash = password_hash()
            return account.id

    def setup_code(self, account_id: int) -> str:
        with self.services.db.write() as session:
            return self.services.accounts.new_setup_login(session, account_id, self.clock())

    def start(self, name: str, version: str, *, pipeline: str = "release", actor: str = "ada") -> int:
        at = Coordinates("default", "dev", "pypi", "", name, version)
        with self.services.db.write() as session:
            return start_manual(session, self.world.parts, pipeline, at, actor=actor, now=self.clock()).execution_id

    def build_of(self, execution_id: int, path: str = "Test/UnitTests") -> str:
        return self.world.action(execution_id, path).build_id

    def batch(self) -> str:
        """A batch of builds in all states: one failed and is ignored, one runs, and others wait for it."""
        document = (
            "version: 0.2\nphases: {}\nbatch:\n  build-graph:\n"
            "  - {identifier: lint, ignore-failure: true}\n  - {identifier: unit}\n  - {identifier: docs}\n"
            "  - {identifier: wheel, depend-on: [lint, unit]}\n  - {identifier: image, depend-on: [wheel, docs]}\n"
        )
        source = PackageSource("default", "dev", "pypi", "acme-billing", "2.4.1", ())

        def nobody(_session: Session, _build_id: str) -> None:
            """No pipeline waits for it."""

        with self.services.db.write() as session:
            batch = start_batch(
                session, "tests", source, Asked(), config={}, initiator="ada", now=self.clock(), on_finished=nobody
            )
            first = session.get_one(Build, groups_of(session, batch.id)[0].build_id)
            part = part_of(session, first, ("process",))
            assert part.reading is not None
            assert part.reading.take(parse_buildspec(document)) == []
            write_found(session, first, part, BuildStatus.SUCCEEDED)
            finish_build(session, first.id, BuildStatus.SUCCEEDED, now=self.clock(), on_finished=nobody)
            ends = {"lint": BuildStatus.FAILED, "docs": BuildStatus.SUCCEEDED}
            for group in groups_of(session, batch.id):
                if group.build_id is not None:
                    session.get_one(Build, group.build_id).started_at = self.clock() - timedelta(seconds=90)
                if group.identifier in ends:
                    finish_build(session, group.build_id, ends[group.identifier], now=self.clock(), on_finished=nobody)
            return batch.id

    def write_log(self, build_id: str, data: bytes) -> None:
        with self.services.db.write() as session:
            self.hook_services.logs.append_now(session, build_id, data)

    def hand_in(self, build_id: str, report: ReportResult) -> str:
        sealer = self.services.stores.server_keyring()
        return hand_in(self.services.db, sealer, build_id, report, self.clock())

    def report_of(self, execution_id: int, group: str) -> str:
        with self.services.db.read() as session:
            found = reading.reports_of_build(session, self.build_of(execution_id))
            return next(each.report.id for each in found if each.group.name == group)

    def deployments(self) -> list[str]:
        """All deployments, the oldest first."""
        with self.services.db.read() as session:
            return list(session.scalars(select(Deployment.id).order_by(Deployment.created_at)))

    def target_of(self, deployment_id: str) -> int:
        """The first target of a deployment."""
        mine = select(DeploymentTarget.id).where(DeploymentTarget.deployment_id == deployment_id)
        with self.services.db.read() as session:
            return session.scalars(mine.order_by(DeploymentTarget.position).limit(1)).one()

    def failed_case(self) -> str:
        """A case that failed in one report and not in another."""
        with self.services.db.read() as session:
            return session.scalars(select(TestCase.case_key).where(TestCase.status == "FAILED").limit(1)).one()

    def record_phases(self, build_id: str, *records: PhaseRecord) -> None:
        with self.services.db.write() as session:
            session.execute(
                update(Build)
                .where(Build.id == build_id)
                .values(phases=[record.as_json() for record in records], started_at=self.clock(), attempt=1)
            )

    def end_build(self, build_id: str, status: BuildStatus = BuildStatus.SUCCEEDED) -> None:
        with self.services.db.write() as session:
            self.world.end_build(build_id, status)(session)

    def package(
        self,
        repository: str,
        name: str,
        version: str,
        *,
        summary: str = "",
        metadata: dict | None = None,
        display_name: str | None = None,
        display_version: str | None = None,
        by: str = "ada",
        promoted_from: str | None = None,
        origin: str = "published",
        yanked_reason: str | None = None,
        filename: str | None = None,
        size_bytes: int = 48_213,
    ) -> None:
        with self.services.db.write() as session:
            row = self._package(session, repository, name, display_name or name, origin)
            facts = dict(metadata or {})
            keyring = self.services.stores.keyring(session.query(Domain).one().id)
            key = PackageKey("pypi", "", PackageName(name))
            entry = PackageVersion(
                package_id=row.id,
                version=version,
                display_version=display_version or version,
                summary=summary,
                description=descriptions.sealed(keyring, key, version, facts.pop("description", "")),
                description_type=facts.pop("description_content_type", ""),
                metadata_=facts,
                origin=origin,
                promoted_from=promoted_from,
                yanked_reason=yanked_reason,
                published_at=self.clock(),
                published_by=by,
            )
            session.add(entry)
            session.flush()
            filename = filename or f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
            sha256 = hashlib.sha256(filename.encode()).hexdigest()
            session.add(
                Asset(
                    package_id=row.id,
                    version_id=entry.id,
                    filename=filename,
                    blob_id=self._blob(session, sha256, size_bytes),
                    sha256=sha256,
                    size_bytes=size_bytes,
                    hashes={},
                    extra={},
                    published_at=self.clock(),
                    published_by=by,
                )
            )

    def _package(self, session: Session, repository: str, name: str, display_name: str, origin: str) -> Package:
        found = (
            session.query(Package)
            .filter_by(repository_id=self.repositories[repository], format="pypi", namespace="", name=name)
            .one_or_none()
        )
        if found is None:
            found = Package(
                repository_id=self.repositories[repository],
                format="pypi",
                namespace="",
                name=name,
                display_name=display_name,
                origin=origin,
                created_at=self.clock(),
            )
            session.add(found)
            session.flush()
        return found

    def _blob(self, session: Session, sha256: str, size_bytes: int) -> int:
        found = session.query(Blob).filter_by(sha256=sha256).one_or_none()
        if found is None:
            found = Blob(
                domain_id=session.query(Domain).one().id,
                sha256=sha256,
                size_bytes=size_bytes,
                locator=sha256,
                envelope=b"",
                created_at=self.clock(),
                touched_at=self.clock(),
            )
            session.add(found)
            session.flush()
        return found.id


def build(folder: Path) -> Site:
    """A site with the default repositories and nobody in it."""
    folder.mkdir(parents=True, exist_ok=True)
    world = World(f"sqlite:///{folder / 'entrepot.db'}")
    services = _services(folder, world)
    told = Notifications(
        Fanout(ADDRESS, Audience(services.accounts.rules)), Rules(), AesSealer(), ADDRESS, sends_mail=True
    )
    logs = LogStore(AesSealer())
    builds, digest = Parts().services(), services.accounts.digest
    attempts = BuildAttempts(builds)
    runners = RunnerServices(
        RunnerClaims(world.db, builds, attempts, digest=digest, lease_seconds=30.0),
        RunnerWork(world.db, builds, attempts, digest=digest, lease_seconds=30.0),
    )
    deployments = DeploymentParts({"Server": DummyPlatform()}, services.clock, AesSealer())
    agents = AgentWork(
        world.db,
        services.stores,
        deployments,
        sign=lambda message: services.signer.sign(AGENT_COMMAND, message).der,
        on_tokens=lambda *_: None,
        issue_token=lambda *_: "",
    )
    hook_services = HookServices(
        world.db,
        services.clock,
        world.parts,
        logs,
        told,
        services.stores,
        (),
        runners,
        deployments,
        agents,
        Destinations(AddressPolicy(), formats.all_outward()),
    )
    app = Flask("entrepot", static_folder=None, template_folder=None)
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False
    context.attach(app, services)
    app.register_blueprint(pages.blueprint())
    app.register_blueprint(hook_pages.blueprint(hook_services))
    headers.register(app)
    problems.register(app, pages.render_page)
    auth.permissions(app)
    site = Site(app, services, hook_services, world)
    _default_repositories(site)
    return site


def _services(folder: Path, world: World) -> Services:
    for name in ("blobs", "locks"):
        (folder / name).mkdir(exist_ok=True)
    LocalKeyFile.create(folder / "master-keys.json")
    db: Database = world.db
    clock = lambda: world.now  # noqa: E731
    accounts = Accounts(b"p" * 32)
    stores = DomainStores(db, FileSystemStore(folder / "blobs"), LocalKeyFile(folder / "master-keys.json"))
    known = formats.all_formats()
    client, flight = UpstreamClient(limits=Limits(), clock=clock), SingleFlight(folder / "locks")
    upstreams = Upstreams(
        db,
        client,
        flight,
        known,
        lambda connection, url: Upstream(connection.id, url, AddressPolicy(()), None),
        lambda _: False,
        clock,
    )
    admissions = Admissions(db, accounts)
    topologies = TopologyCache()
    leaks = LeakGuard(db, accounts, clock)
    publisher = Publisher(db, stores, admissions, known, clock, topologies, leaks)
    return Services(
        db=db,
        stores=stores,
        accounts=accounts,
        clock=clock,
        formats=known,
        admissions=admissions,
        resolver=Resolver(db, topologies, upstreams, known),
        files=Files(db, stores, upstreams, Fetcher(client, flight), known, clock, topologies),
        connections=Connections(AddressPolicy(()), known),
        publisher=publisher,
        idle=IdleVersions(db, publisher, known, clock, timedelta(minutes=1)),
        documents=DocumentCache(),
        upstreams=upstreams,
        signer=Signer(db, stores, clock),
        ahead=ReadAhead(is_on=False),
        rates=RateLimits(db, {}),
        leaks=leaks,
        idempotency=Idempotency(db, stores),
    )


def _default_repositories(site: Site) -> None:
    with site.services.db.write() as session:
        domain = session.query(Domain).one()
        site.services.stores.new_key(session, domain.id, site.clock())
        public = topology.create_repository(
            session,
            domain.id,
            RepositoryName("public"),
            description="What the public indexes offer, kept as it is used",
            external_formats=dict.fromkeys(formats.FORMATS),
            now=site.clock(),
        )
        for row in session.query(Repository):
            row.description = {
                "dev": "Where developers and builds publish",
                "staging": "Promoted from dev, under test",
                "prod": "Approved for production",
            }.get(row.name, row.description)
            site.repositories[row.name] = row.id
        topology.set_upstreams(session, session.get_one(Repository, site.repositories["dev"]), ["public"])
        site.repositories["public"] = public.id


def fill(site: Site) -> dict[str, int]:
    """People, packages and executions in every state, as after a busy week. Returns executions by what they show."""
    site.person("ada", ["admin"])
    site.person("mel", ["read", "approve"], ["default/*"])
    site.person("rob", ["read"], ["default/dev"])
    now = site.world.now
    metadata = {
        "description": README,
        "description_content_type": "text/markdown",
        "requires_python": ">=3.9",
        "license_expression": "Apache-2.0",
        "author": "The Acme billing team",
        "project_urls": {"Documentation": "https://docs.example/billing", "Source": "https://code.example/billing"},
        "requires_dist": ["requests>=2.31", "sqlalchemy>=2"],
    }
    for age_hours, version in ((2400, "2.3.0"), (900, "2.4.0"), (200, "2.4.1"), (2, "2.5.0")):
        site.world.later(hours=-age_hours)
        yanked = "Rounds the wrong way" if version == "2.4.0" else None
        site.package("dev", "acme-billing", version, summary=SUMMARY, metadata=metadata, yanked_reason=yanked)
        site.world.now = now
    site.package(
        "prod", "acme-billing", "2.4.1", summary=SUMMARY, metadata=metadata, promoted_from="dev", by="execution:1"
    )
    site.package("dev", "acme-tax", "0.9.2", summary="Tax rates of the places we sell to", by="mel")
    site.package("dev", "acme-invoice-templates", "1.0.0rc1", display_version="1.0.0-rc1", summary="Letters and forms")
    site.package("public", "requests", "2.32.3", summary="HTTP for humans", origin="upstream", by="upstream")
    site.world.apply(PIPELINE)
    found = {}
    for key, name, version in (
        ("done", "acme-billing", "2.4.1"),
        ("failed", "acme-tax", "0.9.2"),
        ("waiting", "acme-billing", "2.5.0"),
        ("running", "acme-invoice-templates", "1.0.0rc1"),
    ):
        found[key] = site.start(name, version)
        site.world.later(minutes=7)
    _let_run(site, found)
    _tell(site)
    _let_steer(site)
    _keep(site)
    _join(site, site.build_of(found["running"]))
    _elsewhere(site)
    _warn(site)
    _enrol(site)
    _deploy(site)
    return found


def _let_steer(site: Site) -> None:
    """A group with a member and a role, and quotas: what administrators see."""
    now = site.clock()
    with site.services.db.write() as session:
        groups.create(session, "ops", "They look after the servers", "ada", now)
        groups.add_member(session, "ops", find_account(session, "mel"), "ada", now)
        granting.grant(session, "publisher", "group/ops", "default/st*", actor="ada", now=now)
        granting.grant(session, "reader", "user/mel", "default/dev", actor="ada", now=now)
        quotas.put_domain(session, "default", 10**9, "ada", now)
        quotas.put_repository(session, "default", "dev", 10**5, "ada", now)


def _keep(site: Site) -> None:
    """A secret with two versions, for a project, and a parameter that a policy speaks of."""
    now, sealer = site.clock(), site.services.stores.server_keyring()
    secret = store.Put(
        "shop/database", '{"user": "shop", "password": "first one"}', "", "The shop's database", ["tests"]
    )
    parameter = store.Put("/shop/address", "https://shop.example/", "String", "Where the shop is")
    policy = (
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "project/tests",'
        ' "Action": "ssm:GetParameters", "Resource": "*"}]}'
    )
    with site.services.db.write() as session:
        store.put(session, sealer, Kind.SECRET, secret, actor="ada", now=now - timedelta(days=40))
        store.put(session, sealer, Kind.SECRET, store.Put("shop/database", "second one"), actor="mel", now=now)
        row = store.put(session, sealer, Kind.PARAMETER, parameter, actor="ada", now=now)
        secret_reading.set_policy(session, row, policy, actor="ada", now=now)


def _tell(site: Site) -> None:
    """A webhook with deliveries in every state, one that was disabled, an address and a subscription, of ada's."""
    now, sealer, told = site.clock(), AesSealer(), site.hook_services.notifications
    with site.services.db.write() as session:
        account = find_account(session, "ada")
        ada = Identity("ada", account.id, (account_scope(account),), "session")
        wanted = Filter(("asset.*", "*.failed"), "default", "dev")
        for url, reason in (
            ("https://ci.example/hooks/entrepot", ""),
            ("https://chat.example/" + "x" * 200, "it answered 410 Gone"),
        ):
            row, _ = endpoints.create(
                session, sealer, told.rules, ada, url=url, wanted=wanted, description=reason[:2] and "Chat", now=now
            )
            endpoints.rotate(session, sealer, ada, row, timedelta(hours=24), now)
            row.is_enabled, row.disabled_reason = not reason, reason
        for number, state in enumerate(("Succeeded", "Failed", "Pending", "Discarded")):
            delivery = WebhookDelivery(
                id=f"msg_{number}", endpoint_id=1, kind="asset.published", body=_BODY, state=state, due_at=now,
                attempts=1, created_at=now - timedelta(minutes=number), reason="it answered 500" if state in {"Failed", "Pending"} else "",
            )  # fmt: skip
            session.add(delivery)
            session.flush()
            attempt = {"number": 1, "at": now, "took_ms": 120, "status": 500 if number else 200}
            session.add(WebhookAttempt(delivery_id=delivery.id, **attempt, answer=corpus.PAYLOAD * 3))
        session.add(MailAddress(account_id=account.id, address="ada@people.example", asked_at=now, confirmed_at=now))
        mail_subscriptions.subscribe(session, ada, wanted, now)


_BODY = '{"specversion":"1.0","subject":"default/dev/pypi/acme-billing/2.5.0","data":{"name":"acme-billing"}}'
ADDRESS = "https://packages.example"


def _keep_artifacts(site: Site, build_id: str) -> None:
    outputs = StoredOutputs(
        site.services.db, site.services.stores, site.clock, OutputLimits(), lambda _found, _where: ()
    )
    keeper = outputs.keeper(BuildPlace(build_id, "default", "project/1"), site.services.db.retry)
    for name, files in (
        (ArtifactName("primary", "acme-billing-2.5.0"), [f"dist/part-{number:03}.whl" for number in range(600)]),
        (ArtifactName("coverage", f"reports/{corpus.PAYLOAD[:200]}"), [corpus.PAYLOAD[:200], "f" * 200]),
    ):
        body = io.BytesIO()
        with zipfile.ZipFile(body, "w") as archive:
            for file in files:
                archive.writestr(file, file)
        incoming = keeper.begin_artifact(name)
        incoming.write(body.getvalue())
        incoming.keep(len(files))


def _report(site: Site, build_id: str, results: str) -> None:
    """Reports of tests and coverage: the cases t0, t1, … with the results p(assed), f(ailed), e(rror), s(kipped)."""
    words = {"p": "SUCCEEDED", "f": "FAILED", "e": "ERROR", "s": "SKIPPED"}
    said = f"AssertionError: {corpus.PAYLOAD}\n" + "tests/test_calc.py:12: AssertionError\n" * 30
    cases = [case(f"t{number}", words[letter], said * (letter in "fe")) for number, letter in enumerate(results)]
    files = [FileCoverage("src/calc.py", 40 - len(results), len(results), 3, 1), FileCoverage("src/empty.py", 0, 0)]
    for report in (result("unit", cases), result("cover", files)):
        site.hand_in(build_id, report)


def _elsewhere(site: Site) -> None:
    """Destinations, with a secret and without."""
    sealer, now = site.services.stores.server_keyring(), site.world.now
    places = Destinations(AddressPolicy(), formats.all_outward())
    with site.world.db.write() as session:
        for name, url, credential in (
            ("partners", "https://registry.example/upload/", DestinationSecret("bot", "hunter2-hunter2")),
            ("open", "https://forge.example/very/long/path/to/a/registry/of/somebody/else/simple/upload/", None),
        ):
            wanted = Wanted(name, "pypi", url, ("default/prod",), "https://registry.example/simple/", credential)
            places.put(session, sealer, wanted, actor="ada", now=now)


def _warn(site: Site) -> None:
    """Advisories about a version: one with everything, one that says almost nothing."""
    said = {"summary": f"Rounds the wrong way {corpus.PAYLOAD}", "aliases": ["CVE-2026-0001"],
            "database_specific": {"severity": "HIGH"},
            "references": [{"type": "ADVISORY", "url": "https://advisories.example/OSV-2026-17"}]}  # fmt: skip
    package = {"ecosystem": "PyPI", "name": "acme-billing"}
    documents = [
        {"id": "OSV-2026-17", "modified": "2026-01-01T00:00:00Z", **said,
         "affected": [{"package": package, "ranges": [
             {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.5.0"}]}]}]},
        {"id": "OSV-2026-18", "modified": "2026-01-01T00:00:00Z",
         "affected": [{"package": package, "versions": ["2.4.1", "2.5.0"]}]},
    ]  # fmt: skip
    with site.world.db.write() as session:
        advisories.import_documents(session, site.services.formats, documents, actor="ada", now=site.clock())


def _join(site: Site, build_id: str) -> None:
    """Runners in every state; the first of them has a build."""
    said = runner_rows.Introduction("builder-1.acme.example", "1.0.0", ("process", "container"), 4)
    digest, now = site.services.accounts.digest, site.world.now
    with site.world.db.write() as session:
        for name, limits in (
            ("builder-1", runner_rows.Limits()),
            ("builder-2", runner_rows.Limits(projects=("tests",), domains=("default",))),
            ("builder-3", runner_rows.Limits()),
            ("laptop", runner_rows.Limits()),
        ):
            row, given = runner_rows.add(session, name, limits, digest=digest, created_by="ada", now=now)
            if name != "laptop":
                runner_rows.register(session, given.secret, said, digest=digest, now=now)
            if name == "builder-1":
                job_id = session.get_one(Build, build_id).job_id
                session.execute(update(Job).where(Job.id == job_id).values(owner=row.id, state=JobState.RUNNING))
            elif name == "builder-2":
                row.seen_at = now - timedelta(hours=3)
        runner_rows.revoke(session, "builder-3", by="ada", now=now, end_token=lambda *_: None)


def _enrol(site: Site) -> None:
    """Agents in every state; the first has something installed, and an alarm."""
    digest, now = site.services.accounts.digest, site.world.now
    facts = {"host": "web-1.acme.example", "version": "1.0.0", "os": "Linux 6.1 x86_64", "user": "root"}
    places = {
        "web-1": agent_rows.Place((("role", "web"), ("stage", "prod")), zone="a", address="10.0.0.4:8080"),
        "web-2": agent_rows.Place((("role", "web"),), domains=("default",)),
        "web-3": agent_rows.Place(),
        "laptop-of-mel": agent_rows.Place(),
    }
    about = {"created_by": "ada", "created_at": now, "updated_at": now}
    with site.world.db.write() as session:
        for number, (name, place) in enumerate(places.items()):
            row, given = agent_rows.add(session, name, place, digest=digest, created_by="ada", now=now)
            if name != "laptop-of-mel":
                key = base64.b64encode(bytes([number]) * 32).decode()
                agent_rows.enrol(session, given.secret, key, facts, digest=digest, now=now)
                row.seen_at = now - timedelta(hours=3 * number)
            if name == "web-1":
                row.alarm, row.alarmed_at = agent_rows.TWO_HOLDERS, now
        agent_rows.revoke(session, "web-3", by="ada", now=now)
        application = DeploymentApplication(name="shop", domain="default", compute_platform="Server", **about)
        session.add(application)
        session.flush()
        session.add(
            DeploymentGroup(id="a" * 32, application_id=application.id, name="production", document={}, **about)
        )
        session.flush()
        found = {"deploymentId": "d-ABCDEFGHI", "files": 9, "changedCount": 2, "missingCount": 1}
        session.add(
            DeploymentInstallation(
                group_id="a" * 32,
                target="web-1",
                deployment_id="d-ABCDEFGHI",
                revision={},
                is_healthy=True,
                installed_at=now,
                found=found,
                found_at=now,
            )
        )


def _deploy(site: Site) -> None:
    """A group of four machines with a version, and a deployment to it that waits for an answer to a failure."""
    deployed = Deployed(site)
    with site.services.db.read() as session:
        shop = session.scalars(select(DeploymentApplication.id)).one()
    targets = ["web-1", "web-2", {"name": "web-3", "agent": "web-3", "zone": "b"}, "web-4"]
    deployed.group(shop, "web", targets, alarmConfiguration={"enabled": True, "alarms": [{"name": "pager"}]})
    deployed.finish(deployed.deploy("shop", "web", "2.4.1", description="The first one"))
    going = deployed.deploy("shop", "web", "2.5.0", config=HALF, guidedFailure=True)
    deployed.run(going, "web-1", fails="ValidateService")


def _let_run(site: Site, found: dict[str, int]) -> None:
    for key, results in (("done", "pps"), ("failed", "pfepps"), ("waiting", "pppp")):
        _report(site, site.build_of(found[key]), results)
    for key in ("done", "waiting", "failed"):
        build = site.build_of(found[key])
        site.write_log(build, LOG)
        moment = site.world.now
        phases = [
            PhaseRecord(Phase.SUBMITTED, moment, BuildStatus.SUCCEEDED, moment),
            PhaseRecord(Phase.QUEUED, moment, BuildStatus.SUCCEEDED, moment),
        ]
        for phase in (Phase.PROVISIONING, Phase.DOWNLOAD_SOURCE, Phase.INSTALL, Phase.BUILD):
            site.world.later(seconds=4)
            is_bad = key == "failed" and phase is Phase.BUILD
            faults = (Fault("COMMAND_EXECUTION_ERROR", "Error while executing command: pytest. Reason: exit status 1"),)
            status = BuildStatus.FAILED if is_bad else BuildStatus.SUCCEEDED
            phases.append(PhaseRecord(phase, moment, status, site.world.now, faults if is_bad else ()))
            moment = site.world.now
        site.record_phases(build, *phases)
        _keep_artifacts(site, build)
        site.end_build(build, BuildStatus.FAILED if key == "failed" else BuildStatus.SUCCEEDED)
    running = site.build_of(found["running"])
    site.write_log(running, LOG[:400])
    moment = site.world.now
    site.record_phases(
        running, PhaseRecord(Phase.SUBMITTED, moment, BuildStatus.SUCCEEDED, moment), PhaseRecord(Phase.BUILD, moment)
    )
    ask = site.world.action(found["done"], "Approve/ReleaseManager")
    with site.services.db.write() as session:
        decide(
            session,
            site.world.parts,
            found["done"],
            "Approve",
            "ReleaseManager",
            verdict=Verdict.APPROVED,
            comment="Ran a week on the test cluster",
            actor="mel",
            now=site.clock(),
            token=ask.token,
        )
    site.world.work()


SUMMARY = "Invoices, dunning letters and ledgers for Acme"
README = """# Acme billing

Makes **invoices** out of orders. Handles `EUR` and `USD`.

```python
from acme.billing import Invoice

Invoice.of(order).send()
```

| Setting | Default |
|---|---|
| `ROUNDING` | half-even |

See the [documentation](https://docs.example/billing).
"""
LOG = (
    b"[Container] 2026/01/01 09:00:00 Entering phase INSTALL\n"
    b"[Container] 2026/01/01 09:00:01 Running command pip install .\n"
    b"Successfully installed acme-billing\n"
    b"[Container] 2026/01/01 09:00:05 Running command pytest -q\n"
    b"\x1b[1m============ test session starts ============\x1b[0m\n"
    b"collected 4 items\n"
    b"\x1b[32mtests/test_money.py ...\x1b[0m\x1b[31mF\x1b[0m\n"
    b"\x1b[31m\x1b[1mFAILED\x1b[0m tests/test_money.py::test_rounding - assert 1.005 == 1.01\n"
    b"sneaky: \xe2\x80\xaeevil\xe2\x80\xac <b>not bold</b>\n"
    b"[Container] 2026/01/01 09:00:09 Phase complete: BUILD State: FAILED\n"
)
