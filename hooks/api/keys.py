"""The keys of a domain: which there are, what still uses them, and their rotation by the worker."""

from __future__ import annotations

from dataclasses import dataclass

from hooks import key_rotation
from hooks.models.job import Job
from hooks.services import HookServices
from registry import audit
from registry.access import Action
from registry.api.routes import Route
from registry.http import context
from registry.http.auth import requires
from registry.repos.key_use import CURRENT, KeyUse, key_uses, owner_named


@dataclass(frozen=True, slots=True)
class RotationView:
    """The newest rotation that was asked for here. ``state`` is its job's; ``error`` is why it failed or waits."""

    job_id: int
    state: str
    error: str | None


@dataclass(frozen=True, slots=True)
class DomainKeys:
    """The keys of a domain, oldest first, and how many bodies and fields its older keys still wrap."""

    domain: str
    provider: str
    keys: tuple[KeyUse, ...]
    remaining: int
    rotation: RotationView | None


class KeyViews:
    """The operations on keys."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table: for administrators."""
        door, place = requires(Action.ADMIN, domain=True, permission="entrepot:ManageKeys"), "/domains/<domain>/keys"
        return (
            Route("GET", place, door, self.list_domain_keys, answer=DomainKeys),
            Route("POST", f"{place}/rotate", door, self.rotate_domain_keys, answer=DomainKeys, status=202),
        )

    def list_domain_keys(self, domain: str) -> DomainKeys:
        """The keys of a domain with their state, what each still wraps, and the newest rotation."""
        services = self._services
        with services.db.read() as session:
            uses = key_uses(session, services.stores, services.sealed_fields, owner_named(session, domain))
            job = key_rotation.latest(session, domain)
        return DomainKeys(
            domain,
            services.stores.provider.name,
            tuple(uses),
            sum(use.blobs + use.fields for use in uses if use.state != CURRENT),
            _rotation(job) if job is not None else None,
        )

    def rotate_domain_keys(self, domain: str) -> DomainKeys:
        """Have the worker make a new key and wrap anew what the older ones wrap; nothing stored is rewritten.

        While one is waiting or running, this asks for no other. An unfinished one is finished first.
        """
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            owner = owner_named(session, domain)
            job_id = key_rotation.enqueue(session, owner, caller.name)
            audit.record(session, services.clock(), caller.name, "keys.rotate_asked", owner.name, job=job_id)
        return self.list_domain_keys(domain)


def _rotation(job: Job) -> RotationView:
    return RotationView(job.id, job.state.value, job.error)
