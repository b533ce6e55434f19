"""What a deployment is asked for, once it has been parsed, checked and pinned. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ONE_AT_A_TIME = "CodeDeployDefault.OneAtATime"


@dataclass(frozen=True, slots=True)
class DeploymentRequest:
    """One CreateDeployment.

    ``group_id`` is the group's row, ``revision`` a pinned document, ``config`` the document that ``config_name`` stands
    for, ``initiator`` the account.

    ``options`` have CodeDeploy's names: ``ignoreApplicationStopFailures``, ``fileExistsBehavior``, ``targetInstances``,
    ``updateOutdatedInstancesOnly``, ``autoRollbackConfiguration``, ``overrideAlarmConfiguration``; and ours: ``targets``
    (names: only these), ``maxConcurrent``, ``guidedFailure``, ``skipEvents`` (names), ``bakeTimeInMinutes``.
    ``request_token``: asked again with the same one within the day, it is the same deployment.
    """

    group_id: str
    revision: Mapping[str, Any]
    initiator: str
    config_name: str = ONE_AT_A_TIME
    config: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    subject: str | None = None
    request_token: str | None = None
    creator: str = "user"
    retry_of: str | None = None
