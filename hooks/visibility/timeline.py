"""The moments of a package version's life in order, each in a sentence. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hooks.visibility.life_shapes import (
    LifeApproval,
    LifeBuild,
    LifeDeployment,
    LifeExecution,
    LifeMoment,
    LifePlace,
    LifeReport,
    LifeSource,
)

_SHORT = 12
_TONES = {"SUCCEEDED": "good", "IN_PROGRESS": "busy", "STOPPED": "idle", "INCOMPLETE": "wait", "GENERATING": "busy"}


def timeline(
    source: LifeSource | None,
    places: Iterable[LifePlace],
    builds: Iterable[LifeBuild],
    reports: Iterable[LifeReport],
    executions: Iterable[LifeExecution],
    approvals: Iterable[LifeApproval],
    deployments: Sequence[LifeDeployment],
) -> tuple[LifeMoment, ...]:
    """All that happened, the oldest first."""
    found = [
        *_of_places(places, source),
        *_of_builds(builds, source),
        *_of_reports(reports),
        *_of_executions(executions),
        *_of_approvals(approvals),
        *_of_deployments(deployments),
    ]
    return tuple(sorted(found, key=lambda each: each.at))


def _of_places(places: Iterable[LifePlace], source: LifeSource | None) -> Iterator[LifeMoment]:
    for place in places:
        detail = f"sha256 {place.digest[:_SHORT]}…" if place.files else ""
        if place.promoted_from:
            by = f"{place.pipeline} #{place.execution_id}" if place.execution_id else place.by
            text = f"promoted from {place.promoted_from} to {place.repository} by {by}"
            kind = "promoted"
        elif source is not None and source.kind == "upstream":
            kind, text = "kept", f"kept in {place.repository}, as it was found outside"
        else:
            how = f" with a {place.via}" if place.via else ""
            kind, text = "published", f"published to {place.repository} by {place.by}{how}"
        yield LifeMoment(place.at, kind, "good", text, detail, place.repository, execution_id=place.execution_id)


def _of_builds(builds: Iterable[LifeBuild], source: LifeSource | None) -> Iterator[LifeMoment]:
    for build in builds:
        what = "published it" if build.has_published else (build.status or "").lower().replace("_", " ")
        of = f" for execution {build.execution_id}" if build.execution_id else ""
        uri = source.uri if source is not None and source.build_id == build.build_id else ""
        detail = " ".join(part for part in (uri, build.commit) if part)
        tone = _TONES.get(build.status or "SUCCEEDED", "bad")
        text = f"build {build.number} of {build.project}{of}: {what}"
        seen = build.build_id if build.status is not None else None
        yield LifeMoment(build.at, "build", tone, text, detail, build_id=seen, execution_id=build.execution_id)


def _of_reports(reports: Iterable[LifeReport]) -> Iterator[LifeMoment]:
    for report in reports:
        if report.line_coverage_percent is not None:
            text = f"coverage {report.group}: {report.line_coverage_percent} % of the lines"
        else:
            text = f"tests {report.group}: {report.succeeded} of {report.total} passed"
            text += f", {report.failed} failed" if report.failed else ""
        yield LifeMoment(report.at, "report", _TONES.get(report.status, "bad"), text, build_id=report.build_id)


def _of_executions(executions: Iterable[LifeExecution]) -> Iterator[LifeMoment]:
    tones = {"Succeeded": "good", "Failed": "bad"}
    for each in executions:
        what = ": a stage is rolled back" if each.execution_type == "ROLLBACK" else ""
        name = f"{each.pipeline} #{each.execution_id}"
        detail = f"by {each.triggered_by}, sha256 {each.digest[:_SHORT]}…"
        yield LifeMoment(
            each.started_at,
            "execution",
            "busy",
            f"execution {name} began{what}",
            detail,
            execution_id=each.execution_id,
        )
        if each.ended_at is not None:
            tone = tones.get(each.status, "idle")
            text = f"execution {name} ended: {each.status.lower()}"
            yield LifeMoment(each.ended_at, "execution", tone, text, execution_id=each.execution_id)


def _of_approvals(approvals: Iterable[LifeApproval]) -> Iterator[LifeMoment]:
    tones = {"Approved": "good", "Rejected": "bad", "Expired": "bad"}
    for each in approvals:
        place = f"{each.pipeline} #{each.execution_id}, {each.stage}/{each.action}"
        if each.verdict == "Waiting" or each.decided_at is None:
            text = f"approval asked for: {place}"
            yield LifeMoment(each.asked_at, "approval", "wait", text, execution_id=each.execution_id)
            continue
        by = f" by {', '.join(each.deciders)}" if each.deciders else ""
        detail = ", ".join(part for part in (_comments(each), f"sha256 {each.digest[:_SHORT]}…") if part)
        text = f"{each.verdict.lower()}{by}: {place}"
        tone = tones.get(each.verdict, "idle")
        yield LifeMoment(each.decided_at, "approval", tone, text, detail, execution_id=each.execution_id)


def _comments(approval: LifeApproval) -> str:
    """What was said; of several answers with who said it."""
    if len(approval.answers) <= 1:
        return approval.comment
    return "; ".join(f"{said.account}: {said.comment}" for said in approval.answers if said.comment)


def _of_deployments(deployments: Iterable[LifeDeployment]) -> Iterator[LifeMoment]:
    for each in deployments:
        place = f"{each.application}/{each.group}"
        about = {"execution_id": each.execution_id, "deployment_id": each.deployment_id}
        what = f"rollback of {each.rollback_of}" if each.rollback_of else "deployment"
        yield LifeMoment(each.created_at, "deployment", "busy", f"{what} to {place} by {each.initiator}", **about)  # type: ignore[arg-type]
        if each.ended_at is None:
            continue
        if each.since is not None:
            some = ", ".join(target.name for target in each.targets[:3])
            rest = each.target_count - min(3, len(each.targets))
            names = some + (f" and {rest} more" if rest > 0 else "")
            text = f"deployed to {place}" + (f": {names}" if names else "")
            yield LifeMoment(each.since, "deployed", "good", text, f"sha256 {each.digest[:_SHORT]}…", **about)  # type: ignore[arg-type]
        else:
            undone = f"; undone by {each.rolled_back_by}" if each.rolled_back_by else ""
            text = f"deployment to {place} {each.status.lower()}{undone}"
            yield LifeMoment(each.ended_at, "deployment", "bad", text, each.error, **about)  # type: ignore[arg-type]
        if each.until is not None:
            text = f"replaced in {place} by {each.replaced_by}"
            yield LifeMoment(each.until, "replaced", "idle", text, execution_id=None, deployment_id=each.replaced_by)
