"""What a build gets of the registry: its source's files, a token of its own, and the addresses for its clients."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import BinaryIO

from sqlalchemy.orm import Session

from hooks.builds import publishing
from hooks.builds.executor import PUBLISH_BASE_URL, REGISTRY_BASE_URL, ExecutorError, Publishing, Refused
from hooks.builds.grants import IssuedToken, PublishDoor
from hooks.builds.source import PackageSource
from hooks.models.build import Build
from registry.access import Action
from registry.accounts import Accounts, find_account
from registry.clock import Clock
from registry.db import Database
from registry.errors import NotFound
from registry.format import Format, LoginTarget
from registry.repos.assets import open_asset
from registry.stores import DomainStores
from storage.errors import Damaged, Missing, StorageError

ACCOUNT = "builds"
"""The account that builds act as. Each token it gets reads in the one repository of its build, or publishes in one."""

STAND_IN = "the-worker-adds-the-token"
"""What clients send that publish nothing without a token; it is replaced on the way."""

_GRACE = timedelta(minutes=10)


class BuildAccess:
    """The registry as builds see it. Safe for many threads."""

    def __init__(
        self, db: Database, stores: DomainStores, accounts: Accounts, formats: Mapping[str, Format], clock: Clock
    ) -> None:
        self._db = db
        self._stores = stores
        self._accounts = accounts
        self._formats = formats
        self._clock = clock

    def open_asset(self, source: PackageSource, filename: str) -> BinaryIO:
        """A pinned file. Raises Refused when it is gone for good, ExecutorError when it cannot be had now."""
        (pinned,) = [asset for asset in source.assets if asset.filename == filename]
        try:
            return open_asset(
                self._db,
                self._stores,
                domain=source.domain,
                repository=source.repository,
                format_name=source.format,
                namespace=source.namespace,
                name=source.name,
                version=source.version,
                filename=filename,
                sha256=pinned.sha256,
            )
        except (NotFound, Missing, Damaged) as error:
            raise Refused(str(error)) from error
        except StorageError as error:
            raise ExecutorError(f"{filename} cannot be read now: {error}") from error

    def issue_token(self, build: Build) -> IssuedToken:
        """A token that reads the build's source repository until a little after the build's time-out."""
        source = PackageSource.from_json(build.source)
        return self._issue(build, f"build {build.id}", [Action.READ], f"{source.domain}/{source.repository}")

    def open_publishing(self, build: Build, place: tuple[str, str]) -> PublishDoor:
        """A token that reads and publishes in ``place`` for this attempt, and the way on which it is used."""
        token = self._issue(
            build, f"publishing of build {build.id}", [Action.READ, Action.PUBLISH], "/".join(place), publishes=True
        )
        paths = tuple(f"/{name}/{'/'.join(place)}/" for name in self._formats)
        variables: dict[str, str] = {"ENTREPOT_PUBLISH_REPOSITORY": "/".join(place)}
        for name, format_ in self._formats.items():
            target = self._publish_target(name, place)
            variables[f"ENTREPOT_PUBLISH_{name.upper()}_URL"] = target.repository_url
            variables.update(format_.publish_variables(target))
        return PublishDoor(place, token, Publishing(paths, f"Bearer {token.token}"), variables)

    def _publish_target(self, name: str, place: tuple[str, str]) -> LoginTarget:
        return LoginTarget(f"{PUBLISH_BASE_URL}/{name}/{'/'.join(place)}/", "__token__", STAND_IN)

    def _issue(
        self, build: Build, name: str, actions: list[Action], repository: str, *, publishes: bool = False
    ) -> IssuedToken:
        life = timedelta(minutes=build.timeout_minutes) + _GRACE

        def unit(session: Session) -> tuple[int, str]:
            account = find_account(session, ACCOUNT)
            now = self._clock()
            issued = self._accounts.issue_token(
                session,
                account.id,
                name,
                actions=actions,
                repositories=[repository],
                life=life,
                now=now,
                kind="build",
                created_by=ACCOUNT,
            )
            if publishes:
                publishing.bind(session, issued.id, build, now)
            return issued.id, issued.secret

        token_id, secret = self._db.retry(unit)

        def revoke() -> None:
            self._db.retry(lambda session: self._accounts.revoke_token(session, token_id, self._clock()))

        return IssuedToken(ACCOUNT, secret, revoke, token_id)

    def client_variables(self, source: PackageSource) -> Mapping[str, str]:
        """Variables that point each format's clients at the source's repository."""
        variables: dict[str, str] = {}
        for name, format_ in self._formats.items():
            url = f"{REGISTRY_BASE_URL}/{name}/{source.domain}/{source.repository}/"
            variables.update(format_.build_variables(url))
        return variables

    def client_files(
        self, source: PackageSource, token: IssuedToken, publishes_to: tuple[str, str] | None = None
    ) -> Mapping[str, str]:
        """Files below the build's home with its credential, for clients that do not read ``~/.netrc``."""
        files: dict[str, str] = {}
        for name, format_ in self._formats.items():
            url = f"{REGISTRY_BASE_URL}/{name}/{source.domain}/{source.repository}/"
            publish = self._publish_target(name, publishes_to) if publishes_to is not None else None
            files.update(format_.build_files(LoginTarget(url, token.login, token.token), publish))
        return files
