"""What goes in and out of the API of deployments, in CodeDeploy's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from hooks.deployments.installed import InstalledTarget, PlannedTarget
from hooks.deployments.views import DeploymentDetail, DeploymentSummary, TargetView
from registry.api.shapes import Between, Length

Name = Annotated[str, Length(1, 100)]
DOCUMENT_CHARACTERS = 100_000


# --- applications and groups -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NameQuery:
    """Where to go on in a list by names."""

    after: Annotated[str, Length(0, 100)] = ""
    limit: Annotated[int, Between(1, 200)] = 50


@dataclass(frozen=True, slots=True)
class NewApplication:
    """CodeDeploy's CreateApplication. ``domain`` is whose policy says who may see and deploy it."""

    application_name: Name
    compute_platform: Annotated[str, Length(1, 16)] = "Server"
    domain: Annotated[str, Length(1, 50)] = "default"


@dataclass(frozen=True, slots=True)
class ApplicationChange:
    """CodeDeploy's UpdateApplication: another name."""

    new_application_name: Name


@dataclass(frozen=True, slots=True)
class Application:
    """An application, with the names of its groups."""

    application_name: str
    domain: str
    compute_platform: str
    deployment_groups: tuple[str, ...]
    created_by: str
    create_time: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ApplicationList:
    """Applications the caller may see, by name; ``next`` goes into ``after``, null at the end."""

    items: tuple[Application, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class GroupDocument:
    """A group's document, YAML or JSON: CodeDeploy's CreateDeploymentGroup. ``etag``: only if it still is that one.

    An empty ``etag``: only if there is no such group yet.
    """

    document: Annotated[str, Length(1, DOCUMENT_CHARACTERS)]
    etag: Annotated[str, Length(0, 64)] | None = None


@dataclass(frozen=True, slots=True)
class LastDeployment:
    """CodeDeploy's LastDeploymentInfo, with what was deployed."""

    deployment_id: str
    status: str
    version: str
    create_time: datetime
    end_time: datetime | None


@dataclass(frozen=True, slots=True)
class DeploymentGroupSummary:
    """A group in a list. Its last deployments are null where there were none, or they are not kept any more."""

    application_name: str
    deployment_group_id: str
    deployment_group_name: str
    compute_platform: str
    deployment_config_name: str
    last_successful_deployment: LastDeployment | None
    last_attempted_deployment: LastDeployment | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class DeploymentGroupDetail(DeploymentGroupSummary):
    """A group. ``document`` can be applied again; ``etag`` changes with it. ``target_revision`` is its last good one.

    After a PUT, ``change`` is ``created``, ``updated`` or ``unchanged``, and ``warnings`` what has no effect here.
    """

    document: Any
    etag: str
    target_revision: Any
    created_by: str
    create_time: datetime
    change: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeploymentGroupList:
    """Groups of an application by name; ``next`` goes into ``after``, null at the end."""

    items: tuple[DeploymentGroupSummary, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class InstalledList:
    """The targets of a group by name, with what is installed there."""

    items: tuple[InstalledTarget, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class UploadedBundle:
    """A bundle that can be deployed, as a revision of type Upload, until ``expiresAt``."""

    id: str
    sha256: str
    size: int
    bundle_type: str
    expires_at: datetime


# --- configurations --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConfigDocument:
    """A configuration's document, YAML or JSON: CodeDeploy's CreateDeploymentConfig."""

    document: Annotated[str, Length(1, DOCUMENT_CHARACTERS)]


@dataclass(frozen=True, slots=True)
class Config:
    """A deployment configuration; those without ``createTime`` are always there."""

    deployment_config_name: str
    compute_platform: str
    document: Any
    created_by: str
    create_time: datetime | None


@dataclass(frozen=True, slots=True)
class ConfigList:
    """All configurations by name."""

    items: tuple[Config, ...]
    next: str | None


# --- deployments -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PackageRevision:
    """A package version. With ``asset``, a tar, tgz or zip of it is the bundle; without, the package itself is installed.

    ``sha256``: only if it is the one.
    """

    repository: Annotated[str, Length(1, 100)]
    format: Annotated[str, Length(1, 32)]
    name: Annotated[str, Length(1, 255)]
    version: Annotated[str, Length(1, 255)]
    domain: Annotated[str, Length(1, 50)] | None = None
    namespace: Annotated[str, Length(0, 255)] | None = None
    asset: Annotated[str, Length(1, 1000)] | None = None
    sha256: Annotated[str, Length(64, 64)] | None = None


@dataclass(frozen=True, slots=True)
class ArtifactRevision:
    """An artifact of a build: ``primary``, or a secondary one."""

    build_id: Annotated[str, Length(1, 64)]
    identifier: Annotated[str, Length(1, 128)] = "primary"
    sha256: Annotated[str, Length(64, 64)] | None = None


@dataclass(frozen=True, slots=True)
class UploadRevision:
    """An uploaded bundle of the application."""

    id: Annotated[str, Length(36, 36)]
    sha256: Annotated[str, Length(64, 64)] | None = None


@dataclass(frozen=True, slots=True)
class ContentRevision:
    """The text of an appspec, for containers; with the text of a task definition where it brings one."""

    content: Annotated[str, Length(1, DOCUMENT_CHARACTERS)]
    sha256: Annotated[str, Length(64, 64)] | None = None
    task_definition: Annotated[str, Length(1, DOCUMENT_CHARACTERS)] | None = None


@dataclass(frozen=True, slots=True)
class Revision:
    """``revisionType`` is Package, BuildArtifact, Upload, AppSpecContent or String, and its part is there.

    S3 and GitHub are refused with what to use instead.
    """

    revision_type: Annotated[str, Length(1, 32)]
    package: PackageRevision | None = None
    build_artifact: ArtifactRevision | None = None
    upload: UploadRevision | None = None
    app_spec_content: ContentRevision | None = None
    string: ContentRevision | None = None
    s3_location: dict[str, str] | None = None
    git_hub_location: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class TagFilterShape:
    """A filter of tags; ``Type`` is KEY_ONLY, VALUE_ONLY or KEY_AND_VALUE."""

    Key: Annotated[str, Length(0, 128)] | None = None
    Value: Annotated[str, Length(0, 256)] | None = None
    Type: Annotated[str, Length(1, 16)] | None = None


@dataclass(frozen=True, slots=True)
class TagSetShape:
    """Lists of filters: all lists have to match, each by any of its filters."""

    ec2_tag_set_list: Annotated[tuple[tuple[TagFilterShape, ...], ...], Length(0, 3)]


@dataclass(frozen=True, slots=True)
class TargetInstances:
    """Which of the group's machines (blue/green: which machines take over); ``targets``, machines by name, are ours."""

    tag_filters: Annotated[tuple[TagFilterShape, ...], Length(0, 10)] | None = None
    ec2_tag_set: TagSetShape | None = None
    targets: Annotated[tuple[Name, ...], Length(1, 1000)] | None = None


@dataclass(frozen=True, slots=True)
class AutoRollback:
    """CodeDeploy's AutoRollbackConfiguration."""

    enabled: bool
    events: Annotated[tuple[Annotated[str, Length(1, 40)], ...], Length(0, 3)] | None = None


@dataclass(frozen=True, slots=True)
class AlarmName:
    """An alarm by its name."""

    name: Annotated[str, Length(1, 255)]


@dataclass(frozen=True, slots=True)
class AlarmConfiguration:
    """CodeDeploy's AlarmConfiguration."""

    enabled: bool | None = None
    ignore_poll_alarm_failure: bool | None = None
    alarms: Annotated[tuple[AlarmName, ...], Length(0, 10)] | None = None


@dataclass(frozen=True, slots=True)
class NewDeployment:
    """CodeDeploy's CreateDeployment. Without ``revision`` the group's last good one is deployed again.

    Ours: ``targets`` (only these), ``maxConcurrent``, ``guidedFailure``, ``skipEvents``, ``bakeTimeInMinutes``. The same
    ``clientRequestToken`` of a group within a day is the same deployment.
    """

    application_name: Name
    deployment_group_name: Name
    revision: Revision | None = None
    deployment_config_name: Name | None = None
    description: Annotated[str, Length(0, 256)] | None = None
    ignore_application_stop_failures: bool | None = None
    update_outdated_instances_only: bool | None = None
    file_exists_behavior: Annotated[str, Length(1, 16)] | None = None
    target_instances: TargetInstances | None = None
    auto_rollback_configuration: AutoRollback | None = None
    override_alarm_configuration: AlarmConfiguration | None = None
    targets: Annotated[tuple[Name, ...], Length(0, 1000)] | None = None
    max_concurrent: Annotated[int, Between(1, 1000)] | None = None
    guided_failure: bool | None = None
    skip_events: Annotated[tuple[Name, ...], Length(0, 20)] | None = None
    bake_time_in_minutes: Annotated[int, Between(0, 2880)] | None = None
    client_request_token: Annotated[str, Length(1, 64)] | None = None


@dataclass(frozen=True, slots=True)
class DeploymentQuery:
    """Of which application and group, and in which statuses (with commas between them); ``after`` is a deployment."""

    application: Annotated[str, Length(1, 100)] | None = None
    group: Annotated[str, Length(1, 100)] | None = None
    status: Annotated[str, Length(1, 100)] | None = None
    after: Annotated[str, Length(1, 16)] | None = None
    limit: Annotated[int, Between(1, 200)] = 50


@dataclass(frozen=True, slots=True)
class DeploymentList:
    """Deployments the caller may see, the newest first; ``next`` goes into ``after``, null at the end."""

    items: tuple[DeploymentSummary, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class DeploymentBatch:
    """Which deployments (CodeDeploy's BatchGetDeployments)."""

    deployment_ids: Annotated[tuple[Annotated[str, Length(1, 16)], ...], Length(1, 25)]


@dataclass(frozen=True, slots=True)
class DeploymentDetails:
    """Those of the deployments asked for that the caller may see, in the order of the question."""

    items: tuple[DeploymentDetail, ...]


@dataclass(frozen=True, slots=True)
class TargetQuery:
    """How many to leave out, and how many to list; CodeDeploy's filters TargetStatus and ServerInstanceLabel.

    ``status`` is of statuses with commas between them, ``label`` Blue or Green.
    """

    status: Annotated[str, Length(1, 100)] | None = None
    label: Annotated[str, Length(1, 20)] | None = None
    after: Annotated[int, Between(0, 1_000_000)] = 0
    limit: Annotated[int, Between(1, 1000)] = 100


@dataclass(frozen=True, slots=True)
class TargetList:
    """Targets in the order in which they are taken; ``next`` goes into ``after``, null at the end."""

    items: tuple[TargetView, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class DeploymentPreview:
    """What a deployment would do: which revision it pins, by which configuration, to which targets in which order."""

    revision: Any
    revision_label: str
    deployment_config_name: str
    deployment_config: Mapping[str, Any]
    items: tuple[PlannedTarget, ...]


@dataclass(frozen=True, slots=True)
class StopDeployment:
    """CodeDeploy's StopDeployment; ``autoRollbackEnabled`` null: as the deployment's configuration says."""

    auto_rollback_enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class ContinueDeployment:
    """CodeDeploy's ContinueDeployment: READY_WAIT or TERMINATION_WAIT."""

    deployment_wait_type: Annotated[str, Length(1, 20)] = "READY_WAIT"


@dataclass(frozen=True, slots=True)
class RetryDeployment:
    """``skipEvents`` are scripts of the release that goes, to be passed over (a stuck ApplicationStop)."""

    skip_events: Annotated[tuple[Name, ...], Length(0, 20)] = ()


@dataclass(frozen=True, slots=True)
class SkipEvent:
    """Which lifecycle event of the target to pass over."""

    lifecycle_event_name: Name


@dataclass(frozen=True, slots=True)
class AnswerFailure:
    """What becomes of a target that failed under guided failure: ``retry``, ``ignore`` or ``fail``."""

    answer: Annotated[str, Length(1, 10)]
