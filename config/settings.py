"""Settings: ``entrepot.toml`` in the data directory, then the environment; all faults are told at once.

Every setting stands in ``config/entrepot.example.toml`` with its purpose, unit, default and variable.
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import urlsplit

from config import container_hosts, providers
from hooks.deployments.platforms.container.settings import HostSettings
from registry.oidc.provider import Provider

MAIL_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?\Z")

DATABASE_URL = re.compile(r"sqlite:///.|postgresql\+psycopg://[^/]*/.")


class BadSettings(Exception):
    """The settings cannot be used; ``faults`` has one line for each reason."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Server:
    """The web server."""

    bind: str = "127.0.0.1:8080"
    public_url: str = ""
    workers: int = 2
    threads: int = 16
    graceful_timeout_seconds: int = 120
    trusted_proxy_hops: int = 0
    client_patience_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """Where rows are kept."""

    url: str = ""


@dataclass(frozen=True, slots=True)
class Storage:
    """Where bytes and keys are kept."""

    blobs_path: str = ""
    keys_path: str = ""
    upload_limit_bytes: int = 4 * 1024**3
    sweep_grace_hours: int = 24
    cache_limit_bytes: int = 0
    finish_after_seconds: int = 60
    release_frozen_after_days: int = 14


@dataclass(frozen=True, slots=True)
class KeySettings:
    """Who holds the master key. The secrets come from files or the environment, never from ``entrepot.toml``."""

    provider: str = "file"
    timeout_seconds: float = 5.0
    vault_address: str = ""
    vault_mount: str = "transit"
    vault_key: str = "entrepot"
    vault_namespace: str = ""
    vault_ca_bundle: str = ""
    vault_token: str = field(default="", repr=False)
    vault_token_file: str = ""
    vault_auth_mount: str = "approle"
    vault_role_id: str = ""
    vault_secret_id: str = field(default="", repr=False)
    vault_secret_id_file: str = ""
    aws_key_id: str = ""
    aws_region: str = ""
    aws_endpoint_url: str = ""


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """How external connections are asked."""

    urls: Mapping[str, str] = field(default_factory=dict)
    allowed_networks: tuple[str, ...] = ()
    ca_bundle: str = ""
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 30.0
    document_timeout_seconds: float = 25.0
    file_grace_seconds: float = 60.0
    file_floor_bytes_per_second: int = 16 * 1024
    stale_while_revalidate_seconds: float = 300.0
    read_ahead: bool = True


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """How often each caller may ask in a minute, by what it costs; 0 for no limit."""

    reads_per_minute: int = 48_000
    management_per_minute: int = 6_000
    publishes_per_minute: int = 6_000
    searches_per_minute: int = 600
    tokens_per_minute: int = 60


@dataclass(frozen=True, slots=True)
class Builds:
    """Where and how builds run."""

    workspace_path: str = ""
    registry_address: str = ""
    slots: int = 2
    first_user_id: int = 65520
    user_ids: int = 14
    memory_limit_bytes: int = 2 * 1024**3
    process_limit: int = 512
    workspace_limit_bytes: int = 1024**3
    artifact_limit_bytes: int = 1024**3
    artifact_keep_days: int = 90
    artifact_keep_count: int = 0
    cache_limit_bytes: int = 1024**3
    project_cache_limit_bytes: int = 4 * 1024**3
    cache_keep_days: int = 30
    local_cache_limit_bytes: int = 4 * 1024**3
    protected_refs: tuple[str, ...] = ("main", "master")
    report_days: int = 0
    git_schemes: tuple[str, ...] = ("https", "http", "ssh")
    git_directories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerBuilds:
    """Builds in containers; there are none without a ``socket``. Whoever may use that is as good as root."""

    socket: str = ""
    image: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    allowed_images: tuple[str, ...] = ("localhost/*",)
    pulls: bool = False
    moved_images: str = "stop"
    memory_limit_bytes: int = 3 * 1024**3
    processors: int = 2
    most_memory_bytes: int = 16 * 1024**3
    most_processors: int = 8
    full_network: str = ""
    first_user_id: int = 60578
    runs_as_root: bool = False
    capabilities: tuple[str, ...] = ()
    writable_root: bool = False
    disk_limit_bytes: int = 0
    allows_privileged: bool = False


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The job worker."""

    slots: int = 8
    poll_seconds: float = 0.5
    lease_seconds: float = 30.0
    drain_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Checkpoints of the audit log: how often, and where they go."""

    checkpoint_minutes: float = 10.0
    checkpoint_log: bool = True
    checkpoint_file: str = ""
    checkpoint_url: str = ""


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Where webhooks may go, and how many at a time."""

    allowed_networks: tuple[str, ...] = ()
    allow_http: bool = False
    ca_bundle: str = ""
    slots: int = 8
    concurrency: int = 4
    retention_days: int = 30


@dataclass(frozen=True, slots=True)
class DeploymentSettings:
    """What health checks and alarms of deployments may reach, how much goes on at a time, and how long it is kept."""

    check_networks: tuple[str, ...] = ()
    check_ca_bundle: str = ""
    slots: int = 4
    keep_days: int = 365
    agent_silent_seconds: int = 60
    agent_lost_seconds: int = 300


@dataclass(frozen=True, slots=True)
class MailSettings:
    """The mail server that takes notifications; without a host there is no mail."""

    host: str = ""
    port: int = 587
    security: str = "starttls"
    user: str = ""
    password_file: str = ""
    sender: str = ""
    ca_bundle: str = ""


@dataclass(frozen=True, slots=True)
class SignIn:
    """How people sign in."""

    passwords: bool = True
    second_factor: bool = False


@dataclass(frozen=True, slots=True)
class Log:
    """What is logged, and how."""

    level: str = "info"
    format: str = "text"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one server; ``data`` is its data directory."""

    data: Path
    server: Server = Server()
    database: DatabaseSettings = DatabaseSettings()
    storage: Storage = Storage()
    keys: KeySettings = KeySettings()
    upstream: UpstreamSettings = field(default_factory=UpstreamSettings)
    limits: LimitSettings = LimitSettings()
    builds: Builds = Builds()
    builds_container: ContainerBuilds = field(default_factory=ContainerBuilds)
    worker: WorkerSettings = WorkerSettings()
    audit: AuditSettings = AuditSettings()
    webhooks: WebhookSettings = WebhookSettings()
    deployments: DeploymentSettings = DeploymentSettings()
    mail: MailSettings = MailSettings()
    sign_in: SignIn = SignIn()
    log: Log = Log()
    providers: tuple[Provider, ...] = ()
    routers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    container_hosts: Mapping[str, HostSettings] = field(default_factory=dict)

    @property
    def database_url(self) -> str:
        """The database's URL: the configured one, or the SQLite file in the data directory."""
        return self.database.url or f"sqlite:///{self.data / 'entrepot.db'}"

    @property
    def blobs_path(self) -> Path:
        """Where bodies are kept."""
        return Path(self.storage.blobs_path) if self.storage.blobs_path else self.data / "blobs"

    @property
    def keys_path(self) -> Path:
        """Where the master key and the token pepper are kept."""
        return Path(self.storage.keys_path) if self.storage.keys_path else self.data / "keys"

    @property
    def workspace_path(self) -> Path:
        """Where builds have their workspaces.

        A server of root's runs each build as another user, who must be able to reach its workspace and nothing of the
        data directory: then they lie outside of it.
        """
        if self.builds.workspace_path:
            return Path(self.builds.workspace_path)
        if os.geteuid() != 0:
            return self.data / "workspaces"
        name = hashlib.sha256(str(self.data.resolve()).encode()).hexdigest()[:12]
        return Path("/var/tmp") / f"entrepot-builds-{name}"  # noqa: S108  (made by root, checked by the executor)

    @property
    def registry_address(self) -> tuple[str, int]:
        """Host and port at which this machine reaches the server, for the builds that run here."""
        if self.builds.registry_address:
            return host_and_port(self.builds.registry_address)
        return self.local_address

    @property
    def local_address(self) -> tuple[str, int]:
        """Host and port at which the server answers on this machine itself."""
        return local_address(self.server.bind)

    @property
    def locks_path(self) -> Path:
        """Where processes of this host find each other's locks."""
        return self.data / "run" / "locks"

    @property
    def documents_path(self) -> Path:
        """Where processes of this host leave each other what they have rendered."""
        return self.data / "run" / "documents"

    @property
    def base_url(self) -> str:
        """The address people and clients use: the configured one, or the one at which this machine reaches the server."""
        host, port = self.local_address
        return (self.server.public_url or f"http://{f'[{host}]' if ':' in host else host}:{port}").rstrip("/")

    @property
    def needs_public_url(self) -> bool:
        """Whether the server is there for other machines, and nobody has said at which address."""
        return not self.server.public_url and self.local_address != host_and_port(self.server.bind)


def host_and_port(address: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[IPV6]:PORT`` in its parts. Raises ValueError."""
    host, _, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    is_port = port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536
    if not host or (":" in host and not bracketed) or not is_port:
        raise ValueError(f"{address!r} is not HOST:PORT")
    return host[1:-1] if bracketed else host, int(port)


def local_address(bind: str) -> tuple[str, int]:
    """Host and port at which what listens on ``bind`` answers on this machine itself. Raises ValueError."""
    host, port = host_and_port(bind)
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (an address to ask, not to bind)
    return everywhere.get(host, host), port


SECTIONS: Mapping[str, type] = {
    "server": Server,
    "database": DatabaseSettings,
    "storage": Storage,
    "keys": KeySettings,
    "upstream": UpstreamSettings,
    "limits": LimitSettings,
    "builds": Builds,
    "builds.container": ContainerBuilds,
    "worker": WorkerSettings,
    "audit": AuditSettings,
    "webhooks": WebhookSettings,
    "deployments": DeploymentSettings,
    "mail": MailSettings,
    "sign_in": SignIn,
    "log": Log,
}


def load(data: Path, environment: Mapping[str, str] = os.environ, **overrides: Mapping[str, Any]) -> Settings:
    """Read the settings of a data directory.

    ``overrides`` are sections given on the command line; they win over the environment
    (``ENTREPOT_SECTION_NAME``), that over the file. Raises BadSettings with every fault found.
    """
    faults: list[str] = []
    document: dict[str, Any] = {}
    path = data / "entrepot.toml"
    try:
        document = tomllib.loads(path.read_text("utf-8")) if path.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        faults.append(f"{path}: {error}")
    known_providers = providers.read(document.pop("oidc", {}), environment, faults)
    known_routers = _routers(document, faults)
    known_hosts = _container_hosts(document, faults)
    document = sections_of(document)
    faults.extend(f"[{name}] is not a section" for name in sorted(document.keys() - SECTIONS.keys()))
    values = {}
    for name, kind in SECTIONS.items():
        section = document.get(name, {})
        if not isinstance(section, dict):
            faults.append(f"{name} is a section, [{name}], and not a value")
            section = {}
        section = dict(section)
        faults.extend(f"{fault} is a secret: give it as a variable, or in a file" for fault in _written(name, section))
        section.update(_from_environment(name, kind, environment))
        section.update({key: value for key, value in overrides.get(name, {}).items() if value is not None})
        values[name.replace(".", "_")] = _section(name, kind, section, faults)
    if faults:
        raise BadSettings(faults)
    settings = Settings(data, **values, providers=known_providers, routers=known_routers, container_hosts=known_hosts)
    faults = list(_contradictions(settings))
    if faults:
        raise BadSettings(faults)
    return settings


def sections_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document by the names of ``SECTIONS``: ``[builds.container]`` stands beside ``[builds]``."""
    builds = document.get("builds")
    if not isinstance(builds, dict) or "container" not in builds:
        return dict(document)
    outer = {key: value for key, value in builds.items() if key != "container"}
    return {**document, "builds": outer, "builds.container": builds["container"]}


def _routers(document: dict[str, Any], faults: list[str]) -> Mapping[str, Mapping[str, Any]]:
    """Take ``[deployments.routers.NAME]`` out of the document."""
    section = document.get("deployments")
    if not isinstance(section, dict) or "routers" not in section:
        return {}
    from config import routers  # only where there are any: it brings every type of them along

    document["deployments"] = {key: value for key, value in section.items() if key != "routers"}
    return routers.read(section["routers"], faults)


def _container_hosts(document: dict[str, Any], faults: list[str]) -> Mapping[str, HostSettings]:
    """Take ``[deployments.container_hosts.NAME]`` out of the document."""
    section = document.get("deployments")
    if not isinstance(section, dict) or "container_hosts" not in section:
        return {}
    document["deployments"] = {key: value for key, value in section.items() if key != "container_hosts"}
    return container_hosts.read(section["container_hosts"], faults)


# What must not stand in a file that people copy around and keep under version control.
_SECRETS = frozenset({"keys.vault_token", "keys.vault_secret_id"})
KEY_PROVIDERS = ("file", "vault", "aws-kms")


def _written(section: str, values: Mapping[str, Any]) -> list[str]:
    return [f"{section}.{name}" for name, value in values.items() if value and f"{section}.{name}" in _SECRETS]


def _from_environment(section: str, kind: type, environment: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for setting in dataclasses.fields(kind):
        variable = f"ENTREPOT_{section}_{setting.name}".upper().replace(".", "_")
        if variable in environment:
            found[setting.name] = environment[variable]
    return found


def _section(name: str, kind: type, given: Mapping[str, Any], faults: list[str]) -> Any:
    hints = get_type_hints(kind)
    arguments = {}
    for key, value in given.items():
        if key not in hints:
            faults.append(f"{name}.{key} is not a setting")
            continue
        try:
            arguments[key] = _convert(value, hints[key])
        except ValueError as error:
            faults.append(f"{name}.{key}: {error}")
    return kind(**arguments)


def _convert(value: Any, wanted: Any) -> Any:
    if wanted is int or wanted is float:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError(f"{value!r} is not a number")
        return wanted(value)
    if wanted is bool:
        # Any text would be true: "false" in a variable must not switch something on.
        if isinstance(value, bool) or str(value).strip().lower() in ("true", "false"):
            return str(value).strip().lower() == "true"
        raise ValueError(f"{value!r} is neither true nor false")
    if wanted is str:
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not text")
        return value
    if wanted == tuple[str, ...]:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise ValueError(f"{value!r} is not a list of texts")
        return tuple(item.strip() for item in items if item.strip())
    return _table(value)


def _table(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        pairs = [item.partition("=") for item in value.split(",") if item.strip()]
        return {key.strip(): url.strip() for key, _, url in pairs}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError(f"{value!r} is not a table of texts")
    return dict(value)


# Every other number must be more than nothing. Below two threads a worker that waits for an upload answers nobody.
_MINIMUM = {
    "server.threads": 2,
    "server.graceful_timeout_seconds": 0,
    "server.trusted_proxy_hops": 0,
    "storage.sweep_grace_hours": 0,
    "builds.artifact_keep_days": 0,
    "builds.artifact_keep_count": 0,
    "builds.cache_keep_days": 0,
    "builds.local_cache_limit_bytes": 0,
    "storage.cache_limit_bytes": 0,
    "storage.release_frozen_after_days": 0,
    "builds.report_days": 0,
    "deployments.keep_days": 0,
    "deployments.agent_silent_seconds": 2,
    "upstream.stale_while_revalidate_seconds": 0,
    "limits.reads_per_minute": 0,
    "limits.management_per_minute": 0,
    "limits.publishes_per_minute": 0,
    "limits.searches_per_minute": 0,
    "limits.tokens_per_minute": 0,
    "builds.container.disk_limit_bytes": 0,
    "worker.drain_seconds": 0,
}


def _contradictions(settings: Settings) -> Iterator[str]:
    yield from _bad_address("server.bind", settings.server.bind)
    if settings.builds.registry_address:
        yield from _bad_address("builds.registry_address", settings.builds.registry_address)
    if settings.server.public_url and urlsplit(settings.server.public_url).scheme not in {"http", "https"}:
        yield "server.public_url must start with http:// or https://"
    if settings.audit.checkpoint_url and urlsplit(settings.audit.checkpoint_url).scheme not in {"http", "https"}:
        yield "audit.checkpoint_url must start with http:// or https://"
    if settings.builds.slots > settings.builds.user_ids:
        yield "builds.slots is more than builds.user_ids: each build that runs at a time has a user id of its own"
    if settings.deployments.agent_lost_seconds < 2 * settings.deployments.agent_silent_seconds:
        yield "deployments.agent_lost_seconds is less than twice deployments.agent_silent_seconds"
    if settings.builds_container.moved_images not in {"stop", "warn"}:
        yield "builds.container.moved_images is stop or warn"
    yield from _bad_numbers(settings)
    yield from _bad_git(settings.builds)
    yield from _bad_networks("upstream", settings.upstream.allowed_networks)
    yield from _bad_networks("webhooks", settings.webhooks.allowed_networks)
    yield from _bad_networks("deployments", settings.deployments.check_networks, "check_networks")
    yield from _bad_mail(settings.mail)
    yield from _bad_keys(settings.keys)
    if not DATABASE_URL.match(settings.database_url):
        yield "database.url is sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
    if settings.log.level not in {"debug", "info", "warning", "error"}:
        yield "log.level is one of debug, info, warning, error"
    if settings.log.format not in {"text", "json"}:
        yield "log.format is text or json"


def _bad_numbers(settings: Settings) -> Iterator[str]:
    for name, value in _numbers(settings):
        minimum = _MINIMUM.get(name)
        if minimum is None and not value > 0:
            yield f"{name} must be more than 0"
        elif minimum is not None and not value >= minimum:
            yield f"{name} must be at least {minimum}"


def _bad_networks(section: str, networks: Iterable[str], name: str = "allowed_networks") -> Iterator[str]:
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            yield f"{section}.{name}: {error}"


def _bad_git(builds: Builds) -> Iterator[str]:
    if set(builds.git_schemes) - {"https", "http", "ssh"}:
        yield "builds.git_schemes: https, http and ssh are known"
    if any(not directory.startswith("/") for directory in builds.git_directories):
        yield "builds.git_directories: each is an absolute path"


def _bad_mail(mail: MailSettings) -> Iterator[str]:
    if mail.security not in {"starttls", "tls", "none"}:
        yield "mail.security is starttls, tls or none"
    if mail.host and not MAIL_ADDRESS.match(mail.sender):
        yield "mail.sender is the address that mails come from, like entrepot@example.com"
    if mail.password_file and not os.access(mail.password_file, os.R_OK):
        yield "mail.password_file cannot be read"
    if mail.user and (mail.security == "none" or not mail.password_file):
        yield "mail.user needs mail.password_file, and mail.security starttls or tls"


def _bad_keys(keys: KeySettings) -> Iterator[str]:
    if keys.provider not in KEY_PROVIDERS:
        yield f"keys.provider is one of {', '.join(KEY_PROVIDERS)}"
    if keys.provider == "vault" and not keys.vault_address:
        yield "keys.vault_address is needed for keys.provider vault"
    if keys.provider == "aws-kms" and not keys.aws_key_id:
        yield "keys.aws_key_id is needed for keys.provider aws-kms"
    for name, url in (("vault_address", keys.vault_address), ("aws_endpoint_url", keys.aws_endpoint_url)):
        parts = urlsplit(url)
        # Domain keys go this way: in clear only where nobody can listen.
        is_here = parts.hostname in {"127.0.0.1", "::1", "localhost"}
        if url and not (parts.scheme == "https" or (parts.scheme == "http" and is_here)):
            yield f"keys.{name} must start with https:// (http:// is for this machine itself)"


def _bad_address(name: str, address: str) -> Iterator[str]:
    try:
        host_and_port(address)
    except ValueError as error:
        yield f"{name} {error}"


def _numbers(settings: Settings) -> Iterator[tuple[str, float]]:
    for section in SECTIONS:
        for name, value in dataclasses.asdict(getattr(settings, section.replace(".", "_"))).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield f"{section}.{name}", value
