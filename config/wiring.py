"""The object graph of a process, put together in one readable place.

The order of what is wrapped around what:

1. Bodies go through the encrypted store of their domain into the one body store (a directory).
2. A page or file of an upstream is asked for under single flight (threads of this process, then processes of this
   host), by a client that vets every address it connects to.
3. The resolver decides what a name offers from rows first and upstreams second; rendered answers are kept in memory, and
   handed to the sibling processes.
4. Hooks sit on top: they read the registry's events and act through jobs; nothing below knows of them.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from sqlalchemy.orm import Session

from config import deploying, ending, executors, notifying, sources
from config.addresses import own_addresses
from config.deployment_tokens import reading_token
from config.git_sources import git_fetcher
from config.settings import LimitSettings, Settings, UpstreamSettings
from hooks import key_rotation
from hooks.agent_credentials import AgentCredentials
from hooks.builds import batch_engine, batch_jobs, stopping, waiting
from hooks.builds import records as build_records
from hooks.builds.access import BuildAccess
from hooks.builds.attempts import BuildAttempts
from hooks.builds.batch_combine import Combiner
from hooks.builds.build_services import BuildServices
from hooks.builds.credentials import sealed_credentials
from hooks.builds.executor import Executor
from hooks.builds.handler import BuildHandler
from hooks.builds.local_caches import LocalCaches
from hooks.builds.logs import LogStore, sealed_chunks
from hooks.builds.output_care import Retention
from hooks.builds.publishing import witness
from hooks.builds.pushes import sealed_hook_secrets
from hooks.builds.report_store import sealed_messages
from hooks.builds.runner_claims import RunnerClaims
from hooks.builds.runner_leaks import RunnerCredentials
from hooks.builds.runner_leases import sealed_leases
from hooks.builds.runner_work import RunnerWork
from hooks.builds.stored_outputs import OutputLimits, StoredOutputs
from hooks.builds.tailing import Tails
from hooks.deployments.agent_work import AgentWork
from hooks.deployments.parts import Parts as DeploymentParts
from hooks.deployments.targets import sealed_event_logs
from hooks.destinations.publisher import DestinationPublisher, Order, Sent, Stopped
from hooks.destinations.store import Destinations, sealed_destinations
from hooks.jobs.worker import Handler, Settle
from hooks.notifications.audience import Audience
from hooks.notifications.endpoints import sealed_secrets
from hooks.pipelines.actions.git import JOB_KIND as FETCH_KIND
from hooks.pipelines.deployer import PipelineDeployer
from hooks.pipelines.engine import on_build_finished
from hooks.pipelines.fetching import Fetching
from hooks.pipelines.handlers import SETTLED, publishing_handlers
from hooks.pipelines.handlers import handlers as pipeline_handlers
from hooks.pipelines.handlers import settle as settle_action
from hooks.pipelines.locations import JOB_KIND as APPLY_KIND
from hooks.pipelines.parts import Parts, PublishOrder
from hooks.pipelines.sources.connections import sealed_connections
from hooks.pipelines.wiring import real_parts
from hooks.secret_store.delivery import Deliveries
from hooks.secret_store.store import sealed_values
from hooks.services import HookServices, RunnerServices
from hooks.triggers.definitions import Definitions
from hooks.triggers.polling import Polling
from hooks.triggers.pushes import sealed_pipeline_hooks
from hooks.triggers.start import handlers as start_handlers
from registry import formats
from registry.access import Action
from registry.accounts import Accounts, SignInRules
from registry.clock import Clock, system_clock
from registry.db import Database
from registry.errors import UpstreamUnavailable
from registry.idempotency import Idempotency
from registry.leaks import LeakGuard
from registry.names import PackageKey, PackageName
from registry.oidc.relying import Relying
from registry.rates import CostClass, RateLimits, Rates
from registry.repos import checkpoint_sinks
from registry.repos.admission import Admissions
from registry.repos.advisories import AdvisoryView, of_version
from registry.repos.ahead import ReadAhead
from registry.repos.attested import publishers
from registry.repos.checkpoints import Checkpointer, Sink
from registry.repos.connections import Connections, Credential, open_credential
from registry.repos.documents import DocumentCache
from registry.repos.evict import UseMarks
from registry.repos.fetch import Fetcher
from registry.repos.health import HealthBook
from registry.repos.idle import IdleVersions
from registry.repos.keep import Files
from registry.repos.publish import Publisher
from registry.repos.resolve import Resolver
from registry.repos.rotation import Rotator
from registry.repos.sealed_fields import SealedField, registry_fields
from registry.repos.signing import AGENT_COMMAND, Signer
from registry.repos.topology import Connection, TopologyCache
from registry.repos.upstreams import Upstreams
from registry.services import Limits, Services
from registry.stores import DomainStores
from registry.upstream.answers import Limits as UpstreamLimits
from registry.upstream.answers import Upstream
from registry.upstream.client import UpstreamClient
from registry.upstream.flight import SingleFlight
from registry.upstream.guard import AddressPolicy, separate_credential
from storage.awskms import KmsProvider
from storage.blobs import MIB
from storage.errors import KeyUnavailable, StorageError
from storage.filesystem import FileSystemStore
from storage.keyfile import LocalKeyFile
from storage.keyring import KeyProvider
from storage.providers import Providers
from storage.scratch import Scratch
from storage.transit import TransitLogin, TransitPlace, TransitProvider

PEPPER_FILE = "token-pepper"
PEPPER_BYTES = 32
MASTER_KEY_FILE = "master-keys.json"
SHARED_DOCUMENTS_BYTES = 256 * MIB


@dataclass(frozen=True, slots=True)
class JobTable:
    """What a worker is given: handler and settlement by job kind."""

    handlers: Mapping[str, Handler]
    settle: Mapping[str, Settle]


def database(settings: Settings) -> Database:
    """The product's database."""
    return Database(settings.database_url, pool_size=max(8, settings.server.threads))


def accounts(settings: Settings) -> Accounts:
    """Accounts under this server's pepper. Raises KeyUnavailable."""
    path = settings.keys_path / PEPPER_FILE
    try:
        pepper = path.read_bytes()
    except OSError as error:
        raise KeyUnavailable(f"the token pepper {path} cannot be read: {error.strerror}") from None
    if len(pepper) != PEPPER_BYTES:
        # A file that was cut to nothing would make a digest that anybody can compute.
        raise KeyUnavailable(f"the token pepper {path} has {len(pepper)} bytes instead of {PEPPER_BYTES}")
    return Accounts(pepper, SignInRules(settings.sign_in.passwords, settings.sign_in.second_factor))


def body_store(settings: Settings) -> FileSystemStore:
    """Where bodies are kept, as they are on the disk: encrypted."""
    return FileSystemStore(settings.blobs_path)


def domain_stores(settings: Settings, db: Database, bodies: FileSystemStore | None = None) -> DomainStores:
    """The encrypted stores, over ``bodies`` if they are open already."""
    return DomainStores(db, bodies or body_store(settings), key_providers(settings))


def key_providers(settings: Settings) -> Providers:
    """The key provider of the settings, with every other one they name to open what it wrapped."""
    keys = settings.keys
    named: dict[str, KeyProvider] = {"file": LocalKeyFile(settings.keys_path / MASTER_KEY_FILE)}
    if keys.vault_address:
        place = TransitPlace(
            keys.vault_address,
            keys.vault_key,
            keys.vault_mount,
            keys.vault_namespace,
            keys.vault_ca_bundle,
            keys.timeout_seconds,
        )
        login = TransitLogin(
            keys.vault_token,
            keys.vault_token_file,
            keys.vault_role_id,
            keys.vault_secret_id,
            keys.vault_secret_id_file,
            keys.vault_auth_mount,
        )
        named["vault"] = TransitProvider(place, login)
    if keys.aws_key_id:
        named["aws-kms"] = KmsProvider(
            keys.aws_key_id,
            region=keys.aws_region,
            endpoint_url=keys.aws_endpoint_url,
            timeout_seconds=keys.timeout_seconds,
        )
    return Providers(named.pop(keys.provider), list(named.values()))


def sealed_fields() -> Sequence[SealedField]:
    """Every column of sealed boxes there is: what a rotation of keys goes through."""
    return (
        *registry_fields(),
        sealed_chunks(),
        sealed_messages(),
        *sealed_secrets(),
        sealed_credentials(),
        sealed_leases(),
        sealed_hook_secrets(),
        sealed_connections(),
        sealed_pipeline_hooks(),
        sealed_values(),
        sealed_event_logs(),
        sealed_destinations(),
    )


def rotator(stores: DomainStores, db: Database, clock: Clock) -> Rotator:
    """What rotates the keys of domains and of the server."""
    return Rotator(db, stores, sealed_fields(), clock)


def services(settings: Settings, clock: Clock = system_clock) -> Services:
    """All of the registry. Made in each process after the fork: it opens connections and starts threads."""
    db = database(settings)
    people = accounts(settings)
    bodies = body_store(settings)
    stores = domain_stores(settings, db, bodies)
    known_formats = formats.all_formats()
    policy = upstream_policy(settings)
    client = UpstreamClient(limits=_patience(settings.upstream), clock=clock, watcher=HealthBook(db, clock))
    flight = SingleFlight(settings.locks_path)
    describe = _describe(settings.upstream, policy, stores)
    lag = timedelta(seconds=settings.upstream.stale_while_revalidate_seconds)
    upstreams = Upstreams(db, client, flight, known_formats, describe, own_addresses(settings), clock, lag=lag)
    admissions = Admissions(db, people)
    topologies = TopologyCache()
    frozen_after = timedelta(days=settings.storage.release_frozen_after_days)
    runner_credentials = RunnerCredentials(lambda session, token_id: people.revoke_token(session, token_id, clock()))
    leaks = LeakGuard(db, people, clock, (runner_credentials, AgentCredentials()))
    publisher = Publisher(
        db, stores, admissions, known_formats, clock, topologies, leaks, frozen_after=frozen_after, witness=witness
    )
    return Services(
        db=db,
        stores=stores,
        accounts=people,
        clock=clock,
        formats=known_formats,
        admissions=admissions,
        resolver=Resolver(db, topologies, upstreams, known_formats),
        files=Files(
            db,
            stores,
            upstreams,
            Fetcher(client, flight),
            known_formats,
            clock,
            topologies,
            marks=_marks(settings, db, clock),
        ),
        connections=Connections(policy, known_formats),
        publisher=publisher,
        idle=IdleVersions(
            db, publisher, known_formats, clock, timedelta(seconds=settings.storage.finish_after_seconds)
        ),
        documents=DocumentCache(shared=Scratch(settings.documents_path, SHARED_DOCUMENTS_BYTES)),
        upstreams=upstreams,
        signer=Signer(db, stores, clock),
        ahead=ReadAhead(is_on=settings.upstream.read_ahead),
        rates=RateLimits(db, _rates(settings.limits)),
        idempotency=Idempotency(db, stores),
        relying=relying(settings, clock),
        leaks=leaks,
        limits=Limits(upload_bytes=settings.storage.upload_limit_bytes),
        release_frozen_after=frozen_after,
        public_url=settings.server.public_url or None,
        cookie_secure=settings.server.public_url.startswith("https://"),
        readiness=(db.ping, bodies.check),
    )


def _marks(settings: Settings, db: Database, clock: Clock) -> UseMarks | None:
    return UseMarks(db, clock) if settings.storage.cache_limit_bytes else None


def checkpointer(settings: Settings, db: Database, signer: Signer, clock: Clock = system_clock) -> Checkpointer:
    """What signs the audit log's head and sends it where the settings say."""
    chosen = settings.audit
    sinks: list[Sink] = []
    if chosen.checkpoint_log:
        sinks.append(checkpoint_sinks.to_log)
    if chosen.checkpoint_file:
        sinks.append(checkpoint_sinks.to_file(Path(chosen.checkpoint_file)))
    if chosen.checkpoint_url:
        sinks.append(checkpoint_sinks.to_url(chosen.checkpoint_url, settings.upstream.ca_bundle or None))
    return Checkpointer(db, signer, clock, timedelta(minutes=chosen.checkpoint_minutes), tuple(sinks))


def relying(settings: Settings, clock: Clock = system_clock) -> Relying:
    """What signs people in with identity providers. No connection is kept: a code must not arrive there twice."""
    limits = dataclasses.replace(_patience(settings.upstream), idle_connections=0)
    return Relying(settings.providers, UpstreamClient(limits=limits, clock=clock), settings.base_url)


def hook_services(services: Services, settings: Settings) -> HookServices:
    """What the hooks' routes and jobs share."""
    deployments = deploying.parts(settings, services)
    audience = Audience(services.accounts.rules)
    actions = real_parts(
        services.clock,
        executor_types=executors.types(settings),
        release_frozen_after=services.release_frozen_after,
        deployer=PipelineDeployer(deployments, audience.by_name),
        publisher=partial(_publish, destination_publisher(settings, services)),
        advisories=partial(_advisories, services),
        may_approve=partial(_may_approve, audience, services.clock),
        attested=partial(_attested, services),
    )
    return HookServices(
        db=services.db,
        clock=services.clock,
        actions=actions,
        runners=runner_services(settings, services, actions),
        deployments=deployments,
        agents=agent_work(services, deployments),
        logs=LogStore(services.stores.server_keyring()),
        notifications=notifying.notifications(settings, services, services.stores.server_keyring()),
        stores=services.stores,
        sealed_fields=sealed_fields(),
        destinations=Destinations(upstream_policy(settings), formats.all_outward()),
        # Three quarters of the threads are for everybody else, however many logs are being followed.
        tails=Tails(most=max(1, settings.server.threads // 4), is_ending=ending.has_begun),
    )


def destination_publisher(settings: Settings, services: Services) -> DestinationPublisher:
    """What publishes to registries elsewhere, under the rules that hold for upstreams."""
    return DestinationPublisher(
        services.db,
        services.stores,
        services.formats,
        formats.all_outward(),
        upstream_policy(settings),
        sealer=services.stores.server_keyring(),
        ca_bundle=settings.upstream.ca_bundle or None,
    )


def upstream_policy(settings: Settings) -> AddressPolicy:
    """Where the server may go beyond global addresses."""
    return AddressPolicy(tuple(ipaddress.ip_network(text) for text in settings.upstream.allowed_networks))


def _publish(
    publisher: DestinationPublisher, order: PublishOrder, should_stop: Callable[[], bool]
) -> Sequence[Sent] | None:
    pinned = order.source
    key = PackageKey(pinned.format, pinned.namespace, PackageName(pinned.name))
    wanted = Order(
        order.destination, pinned.domain, order.repository, key, pinned.version, dict(pinned.assets), order.tag
    )
    try:
        return publisher.publish(wanted, should_stop)
    except Stopped:
        return None


def _advisories(services: Services, session: Session, key: PackageKey, version: str) -> Sequence[AdvisoryView]:
    return of_version(session, services.formats, key, version)


def publishing_jobs(parts: Parts) -> JobTable:
    """The handler that publishes to registries elsewhere."""
    return JobTable(
        publishing_handlers(parts), dict.fromkeys(SETTLED, lambda session, ended: settle_action(session, parts, ended))
    )


def _may_approve(audience: Audience, clock: Clock, session: Session, name: str, paths: Sequence[str]) -> bool:
    who = audience.by_name(session, name, clock())
    return who is not None and all(who.may(Action.APPROVE, path) for path in paths)


def _attested(services: Services, path: str, key: PackageKey, version: str) -> Mapping[str, tuple[str, ...]]:
    domain, _, repository = path.partition("/")
    return publishers(services.db, services.stores, (domain, repository), key, version)


def general_jobs(parts: Parts) -> JobTable:
    """Handlers of everything but builds, and what becomes of jobs that ended without theirs."""
    on_finished = partial(_on_build_finished, parts)
    of_builds = (waiting, batch_jobs, stopping)
    waits = {kind: run for each in of_builds for kind, run in each.handlers(parts.clock, on_finished).items()}
    return JobTable(
        {**pipeline_handlers(parts), **start_handlers(parts), **waits},
        dict.fromkeys(SETTLED, lambda session, ended: settle_action(session, parts, ended)),
    )


def _on_build_finished(parts: Parts, session: Session, build_id: str) -> None:
    on_build_finished(session, parts, build_id)


def combining_jobs(settings: Settings, services: Services, parts: Parts) -> JobTable:
    """The handler that combines the artifacts of batches."""
    combiner = Combiner(stored_outputs(settings, services), partial(_on_build_finished, parts))
    return JobTable({batch_engine.COMBINE_KIND: combiner}, {batch_engine.COMBINE_KIND: combiner.settle})


def source_jobs(settings: Settings, services: Services, parts: Parts) -> tuple[JobTable, Polling]:
    """The handlers that fetch what pipelines take from elsewhere, and what asks there for news."""
    git = git_fetcher(settings, executors.process_settings(settings))
    sealer = services.stores.server_keyring()
    fetching = Fetching(services.db, services.stores, sealer, parts, git, settings.builds.artifact_limit_bytes)
    polling = Polling(services.db, sealer, parts, git)
    member = Audience(services.accounts.rules).by_name
    definitions = Definitions(services.db, sealer, parts, git, member)
    handlers = {**fetching.handlers(), **polling.handlers(), **definitions.handlers()}
    return JobTable(handlers, {FETCH_KIND: fetching.settle, APPLY_KIND: definitions.settle}), polling


def notification_jobs(settings: Settings, services: Services) -> JobTable:
    """The handlers that deliver webhooks and hand over mails."""
    return JobTable(notifying.handlers(settings, services), {})


def deployment_jobs(deployments: DeploymentParts) -> JobTable:
    """The handlers of deployments."""
    return JobTable(deploying.handlers(deployments), {})


def key_jobs(services: Services) -> JobTable:
    """The handler of key rotations."""
    rotates = rotator(services.stores, services.db, services.clock)
    return JobTable({key_rotation.JOB_KIND: lambda context: key_rotation.run(rotates, context)}, {})


def runner_services(settings: Settings, services: Services, parts: Parts) -> RunnerServices:
    """What runners on other machines ask; builds are given to them as to the worker of this server."""
    builds, digest = build_services(settings, services, parts), services.accounts.digest
    attempts = BuildAttempts(builds)
    lease_seconds = settings.worker.lease_seconds
    return RunnerServices(
        RunnerClaims(services.db, builds, attempts, digest=digest, lease_seconds=lease_seconds),
        RunnerWork(services.db, builds, attempts, digest=digest, lease_seconds=lease_seconds),
    )


def agent_work(services: Services, parts: DeploymentParts) -> AgentWork:
    """What agents of deployments ask and tell."""
    return AgentWork(
        services.db,
        services.stores,
        parts,
        sign=lambda message: services.signer.sign(AGENT_COMMAND, message).der,
        on_tokens=lambda found, place: services.leaks.end(found, place, "build"),
        issue_token=partial(reading_token, services.accounts),
    )


def build_jobs(
    settings: Settings,
    services: Services,
    parts: Parts,
    available: Mapping[str, Executor] | None = None,
    local: LocalCaches | None = None,
) -> JobTable:
    """The handler of builds, for the types of environment that are ``available`` (default: all of the settings).

    ``local`` are the caches of this machine (default: those of the settings, empty).
    """
    handler = BuildHandler(
        services.db,
        executors.executors(settings) if available is None else available,
        build_services(settings, services, parts),
        local or executors.local_caches(settings),
    )
    return JobTable({build_records.JOB_KIND: handler}, {build_records.JOB_KIND: handler.settle})


def build_services(settings: Settings, services: Services, parts: Parts) -> BuildServices:
    """What builds need of the rest of the server, wherever they run."""
    access = BuildAccess(services.db, services.stores, services.accounts, services.formats, services.clock)
    deliveries = Deliveries(services.db, services.stores.server_keyring(), services.clock)
    return BuildServices(
        public_url=settings.server.public_url or None,
        open_asset=access.open_asset,
        find_spec=lambda _source: None,  # each source of this release is unpacked with its buildspec.yml in it
        issue_token=access.issue_token,
        client_variables=access.client_variables,
        client_files=access.client_files,
        open_publishing=access.open_publishing,
        on_finished=partial(_on_build_finished, parts),
        sealer=services.stores.server_keyring(),
        clock=services.clock,
        fetch_input=sources.input_fetcher(settings, services, executors.process_settings(settings)),
        resolver=deliveries.resolver,
        on_tokens=lambda found, build_id: services.leaks.end(found, f"the log of build {build_id}", "build"),
        outputs=stored_outputs(settings, services),
        protected_refs=settings.builds.protected_refs,
        git_credential=sources.credential_opener(services),
        environment_types=executors.types(settings),
        end_token=lambda session, token_id: services.accounts.revoke_token(session, token_id, services.clock()),
    )


def stored_outputs(settings: Settings, services: Services) -> StoredOutputs:
    """Where builds' artifacts and caches are kept."""
    builds = settings.builds
    limits = OutputLimits(builds.artifact_limit_bytes, builds.cache_limit_bytes, builds.project_cache_limit_bytes)
    return StoredOutputs(
        services.db,
        services.stores,
        services.clock,
        limits,
        lambda found, where: services.leaks.end(found, where, "build"),
    )


def retention(settings: Settings) -> Retention:
    """How long artifacts and caches stay."""
    builds = settings.builds
    return Retention(builds.artifact_keep_days, builds.artifact_keep_count, builds.cache_keep_days)


def _rates(limits: LimitSettings) -> Rates:
    return {
        CostClass.READ: limits.reads_per_minute,
        CostClass.MANAGE: limits.management_per_minute,
        CostClass.PUBLISH: limits.publishes_per_minute,
        CostClass.SEARCH: limits.searches_per_minute,
        CostClass.MINT: limits.tokens_per_minute,
    }


def _patience(settings: UpstreamSettings) -> UpstreamLimits:
    return UpstreamLimits(
        connect_seconds=settings.connect_timeout_seconds,
        idle_seconds=settings.read_timeout_seconds,
        document_seconds=settings.document_timeout_seconds,
        file_grace_seconds=settings.file_grace_seconds,
        file_floor_bytes_per_second=settings.file_floor_bytes_per_second,
    )


def _describe(
    settings: UpstreamSettings, policy: AddressPolicy, stores: DomainStores
) -> Callable[[Connection, str], Upstream]:
    def describe(connection: Connection, base_url: str) -> Upstream:
        # What a client's own configuration points at may carry a password; it belongs in no URL of ours.
        url, pair = separate_credential(connection.url or settings.urls.get(connection.format) or base_url)
        # One without a user is a token, which its clients send as Bearer.
        token = pair[1] if pair is not None and not pair[0] else None
        pair = pair if token is None else None
        own = _credential(connection, stores)
        if own is not None:
            pair, token = (own.user, own.password) if own.password else None, own.token or None
        return Upstream(
            id=connection.id,
            base_url=url,
            policy=policy,
            credential=pair,
            ca_bundle=settings.ca_bundle or None,
            token=token,
            ca_pem=connection.ca_pem,
        )

    return describe


def _credential(connection: Connection, stores: DomainStores) -> Credential | None:
    if connection.sealed_credential is None:
        return None
    try:
        return open_credential(connection, stores.keyring(connection.domain_id))
    except StorageError as error:
        # Asked without it the upstream might answer, and differently: that would not be this connection.
        raise UpstreamUnavailable(f"the credential of connection {connection.name} does not open: {error}") from error
