"""Deployment configurations: those that are always there, and rows of one's own, which never change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hooks.deployments.documents.config import DEFAULTS, PREDEFINED, ParsedConfig
from hooks.models.deployment import Deployment, DeploymentConfig, DeploymentGroup
from registry import audit, events
from registry.errors import Conflict, Invalid, NotFound

MOST_CONFIGS = 200
"""CodeDeploy's limit of configurations of one's own."""

for _word in ("create", "delete"):
    events.audited(
        f"deployment_config.{_word}",
        f"deployment-config.{_word}d",
        "-/deployment_config",
        tells=f"A deployment configuration was {_word}d.",
    )


def create_config(session: Session, parsed: ParsedConfig, *, actor: str, now: datetime) -> DeploymentConfig:
    """Make a configuration. Raises Invalid, and Conflict for a name that is taken, or one too many."""
    if not parsed.name:
        raise Invalid("deployment configuration: deploymentConfigName is missing")
    if session.scalar(select(DeploymentConfig.id).where(DeploymentConfig.name == parsed.name)) is not None:
        raise Conflict(f"there is a deployment configuration {parsed.name} already, and they never change")
    if (session.scalar(select(func.count()).select_from(DeploymentConfig)) or 0) >= MOST_CONFIGS:
        raise Conflict(f"there are {MOST_CONFIGS} configurations already; delete those that nobody uses")
    row = DeploymentConfig(
        name=parsed.name,
        compute_platform=parsed.platform,
        document=dict(parsed.document),
        created_by=actor,
        created_at=now,
    )
    session.add(row)
    try:
        session.flush()
    except IntegrityError as error:
        raise Conflict(f"there is a deployment configuration {parsed.name} already, and they never change") from error
    audit.record(session, now, actor, "deployment_config.create", f"deployment-config/{parsed.name}")
    return row


def delete_config(session: Session, name: str, *, actor: str, now: datetime) -> None:
    """Delete a configuration. Raises NotFound, Invalid for one of CodeDeploy's, Conflict while a group names it."""
    if name in PREDEFINED:
        raise Invalid(f"{name} is always there")
    row = session.scalar(select(DeploymentConfig).where(DeploymentConfig.name == name))
    if row is None:
        raise NotFound("deployment configuration", name)
    living = session.scalars(select(DeploymentGroup).where(DeploymentGroup.deleted_at.is_(None)))
    users = sorted(group.name for group in living if group.document.get("deploymentConfigName") == name)
    running = select(Deployment.id).where(Deployment.config_name == name, Deployment.completed_at.is_(None)).limit(1)
    if users or session.scalar(running) is not None:
        raise Conflict(f"{name} is used by " + (f"group {users[0]}" if users else "a deployment that goes on"))
    session.delete(row)
    session.flush()
    audit.record(session, now, actor, "deployment_config.delete", f"deployment-config/{name}")


def list_configs(session: Session) -> Sequence[tuple[str, Mapping[str, Any], DeploymentConfig | None]]:
    """(name, document, row) of all configurations by name; those that are always there have no row."""
    found: list[tuple[str, Mapping[str, Any], DeploymentConfig | None]] = [
        (name, document, None) for name, document in PREDEFINED.items()
    ]
    found += [(row.name, row.document, row) for row in session.scalars(select(DeploymentConfig))]
    return sorted(found, key=lambda each: each[0])


def find_config(session: Session, name: str) -> Mapping[str, Any]:
    """The document of a configuration. Raises NotFound."""
    if name in PREDEFINED:
        return PREDEFINED[name]
    row = session.scalar(select(DeploymentConfig).where(DeploymentConfig.name == name))
    if row is None:
        raise NotFound("deployment configuration", name)
    return row.document


def chosen_config(
    session: Session, name: str | None, group: Mapping[str, Any], platform: str
) -> tuple[str, Mapping[str, Any]]:
    """What a deployment goes by: the configuration of the start, the group's or the platform's usual one.

    Raises NotFound, and Invalid for one of another platform.
    """
    chosen = name or group.get("deploymentConfigName") or DEFAULTS[platform]
    document = find_config(session, chosen)
    if document["computePlatform"] != platform:
        raise Invalid(f"deployment configuration {chosen} is for the platform {document['computePlatform']}")
    return chosen, document


def config_faults(session: Session, name: str, platform: str) -> list[str]:
    """What is wrong with naming a configuration in a group of a platform."""
    try:
        chosen_config(session, name, {}, platform)
    except (NotFound, Invalid) as error:
        return [f"deploymentConfigName: {error}"]
    return []
