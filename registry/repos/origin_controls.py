"""A package's own origin controls in a repository: put, also before its first version, and read."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from registry import audit
from registry.errors import Invalid, NotFound
from registry.models import Package
from registry.models.package import ALLOW, BLOCK, PREPARED
from registry.names import PackageKey
from registry.repos import shelf
from registry.repos.admission import Admission

WORDS = (ALLOW, BLOCK)


def put(
    session: Session,
    admission: Admission,
    key: PackageKey,
    publish: str,
    upstream: str,
    *,
    display_name: str,
    now: datetime,
) -> bool:
    """Set both controls; a package that is not there yet is prepared, without versions. False when nothing changed.

    Raises Invalid for other words than ALLOW and BLOCK.
    """
    for word in (publish, upstream):
        if word not in WORDS:
            raise Invalid(f"an origin control is ALLOW or BLOCK, not {word[:40]!a}")
    package = shelf.find_package(session, admission.repository_id, *key)
    if package is not None and (package.publish, package.upstream) == (publish, upstream):
        return False
    before = {"publish": package.publish, "upstream": package.upstream} if package is not None else None
    if package is None:
        package = Package(
            repository_id=admission.repository_id,
            format=key.format,
            namespace=key.namespace,
            name=key.name,
            display_name=display_name,
            origin=PREPARED,
            publish=publish,
            upstream=upstream,
            created_at=now,
        )
        session.add(package)
    package.publish, package.upstream = publish, upstream
    session.flush()
    shelf.bump(session, admission.domain_id, *key)
    place = f"{admission.path}/{key.format}/{key.path}"
    audit.record(
        session, now, admission.actor, "package.origin", place, publish=publish, upstream=upstream, before=before
    )
    return True


def get(session: Session, repository_id: int, key: PackageKey) -> tuple[str, str]:
    """(publish, upstream) of a package in a repository. Raises NotFound for one it knows nothing of."""
    package = shelf.find_package(session, repository_id, *key)
    if package is None:
        raise NotFound("package", key.path)
    return package.publish, package.upstream
