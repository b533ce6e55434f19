"""A whole server in this process, without its HTTP server: real database, stores, accounts, routes; a clock to set."""

import atexit
import functools
import io
import json
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jinja2 import FileSystemBytecodeCache
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from config import wiring
from config.app import create_app
from config.settings import load
from registry.accounts import find_account
from registry.db import Base
from registry.format import Release
from registry.models import AuditEntry
from registry.names import DomainName, RepositoryName
from registry.repos import topology
from registry.repos.admission import Admission, Credential
from registry.services import Services
from storage.intake import receive
from storage.keyfile import LocalKeyFile

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
PASSWORD = "correct horse battery"
TOKENS = "tokens.json"
REPOSITORIES = {"public": (), "dev": ("public",), "staging": (), "prod": (), "open": ()}
ACCOUNTS = {
    "admin": (("admin",), None),
    "reader": (("read",), ["default/dev"]),
    "publisher": (("read", "publish"), ["default/dev", "default/open"]),
    "promoter": (("read", "promote"), ["default/dev", "default/staging"]),
    "approver": (("read", "approve"), ["default/*"]),
    "stranger": (("read", "publish", "promote", "approve"), ["other/*"]),
}


@functools.cache
def template() -> Path:
    """A data directory with repositories and accounts, made once per process (hashing passwords takes its time)."""
    folder = Path(tempfile.mkdtemp(prefix="entrepot-world-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings = load(folder, {})
    for path in (settings.blobs_path, settings.keys_path, settings.locks_path):
        path.mkdir(parents=True, exist_ok=True)
    (settings.keys_path / wiring.PEPPER_FILE).write_bytes(secrets.token_bytes(32))
    LocalKeyFile.create(settings.keys_path / wiring.MASTER_KEY_FILE)
    services = wiring.services(settings, lambda: START)
    Base.metadata.create_all(services.db.engine)
    with services.db.write() as session:
        domain = topology.create_domain(session, DomainName("default"), START)
        services.stores.new_key(session, domain.id, START)
        for name, upstreams in REPOSITORIES.items():
            topology.create_repository(
                session,
                domain.id,
                RepositoryName(name),
                upstreams=upstreams,
                external_formats={"pypi": None} if name == "public" else None,
                anonymous_read=name == "open",
                now=START,
            )
    tokens = {name: _account(services, name, *rights) for name, rights in ACCOUNTS.items()}
    (folder / TOKENS).write_text(json.dumps(tokens))
    services.db.close()
    return folder


@functools.cache
def compiled_templates() -> FileSystemBytecodeCache:
    """The pages' templates as they were compiled by the first world that showed them: a quarter of what a world costs."""
    folder = tempfile.mkdtemp(prefix="entrepot-templates-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return FileSystemBytecodeCache(folder)


def _account(services: Services, name: str, actions: tuple[str, ...], repositories: list[str] | None) -> str:
    with services.db.write() as session:
        account = services.accounts.create(
            session, name, actions=actions, repositories=repositories, password=PASSWORD, now=services.clock()
        )
        life = timedelta(days=30)
        return services.accounts.issue_token(
            session, account.id, "test", actions=actions, life=life, now=services.clock()
        ).secret


class World:
    """Repositories ``dev`` (upstream ``public``), ``staging``, ``prod`` and ``open`` (read by everybody)."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        """Copy the world that ``template`` made, with everything running anew on the copy, under these settings."""
        shutil.copytree(template(), folder, dirs_exist_ok=True)
        self.now = START
        self.settings = load(folder, environment or {})
        self.services = wiring.services(self.settings, lambda: self.now)
        self.db = self.services.db
        self.tokens: dict[str, str] = json.loads((folder / TOKENS).read_text())
        self.hooks = wiring.hook_services(self.services, self.settings)
        self.app = create_app(self.settings, self.services, self.hooks)
        self.app.jinja_env.bytecode_cache = compiled_templates()
        self.http = self.app.test_client()

    def api_rules(self, blueprint: str = "") -> list[Rule]:
        """The routes of the management interface, of both blueprints or of one."""
        rules = [rule for rule in self.app.url_map.iter_rules() if rule.rule.startswith("/api/v1/")]
        return [rule for rule in rules if rule.endpoint.startswith(blueprint)]

    def close(self) -> None:
        self.db.close()

    def account(self, name: str, *actions: str, repositories: list[str] | None = None) -> str:
        """Add an account; returns a token with all its rights."""
        return _account(self.services, name, actions, repositories)

    def token(
        self, user: str, *actions: str, repositories: list[str] | None = None, life: timedelta = timedelta(days=30)
    ) -> str:
        with self.db.write() as session:
            account_id = find_account(session, user).id
            return self.services.accounts.issue_token(
                session, account_id, "test", actions=actions, repositories=repositories, life=life, now=self.now
            ).secret

    def revoke(self, secret: str) -> None:
        from sqlalchemy import select

        from registry.models import Token

        digest = self.services.accounts.digest(secret)
        with self.db.write() as session:
            token_id = session.scalars(select(Token.id).where(Token.digest == digest)).one()
            self.services.accounts.revoke_token(session, token_id, self.now)

    def disable(self, user: str) -> None:
        with self.db.write() as session:
            find_account(session, user).is_disabled = True

    def publish(
        self,
        repository: str,
        name: str,
        version: str,
        *,
        canonical: str | None = None,
        suffix: str = "-py3-none-any.whl",
        description: str = "",
        domain_name: str = "default",
    ) -> str:
        """Publish a file as ``publisher`` would; returns its SHA-256."""
        with self.db.read() as session:
            domain, row = topology.find_repository(session, domain_name, repository)
        credential = Credential("", self.tokens["admin"])
        identity = self.services.admissions.identify(credential, self.now)
        admission = Admission(identity, domain.id, domain_name, row.id, repository, 1, 0)
        filename = f"{name.replace('-', '_')}-{version}{suffix}"
        store = self.services.stores.of(domain.id)
        handle = receive(io.BytesIO(f"bytes of {filename}".encode()), store, limit_bytes=1000).handle
        release = Release(
            name=self.services.formats["pypi"].key(name).name,
            display_name=name,
            version=canonical or version,
            display_version=version,
            filename=filename,
            summary=f"The {name} package",
            metadata={"license": "MIT"},
            extra={},
            metadata_document=None,
            description=description,
            description_type="text/markdown" if description else "",
        )
        self.services.publisher.publish(admission, credential, "pypi", release, handle, {"sha256": handle.digest})
        return handle.digest

    def call(
        self, method: str, path: str, *, as_: str | None = "admin", token: str | None = None, **options: Any
    ) -> TestResponse:
        """Ask the API as one of the accounts (None: anonymously), or with a token."""
        headers = dict(options.pop("headers", {}))
        secret = token or (self.tokens[as_] if as_ is not None else None)
        if secret is not None:
            headers["Authorization"] = f"Bearer {secret}"
        return self.http.open(f"/api/v1{path}", method=method, headers=headers, **options)

    def audit(self) -> list[tuple[str, str, str]]:
        """(actor, action, object) of all entries, oldest first."""
        from sqlalchemy import select

        with self.db.read() as session:
            rows = session.scalars(select(AuditEntry).order_by(AuditEntry.seq)).all()
        return [(row.actor, row.action, row.object) for row in rows]
