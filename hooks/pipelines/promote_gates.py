"""What a promotion asks of a version before it copies it. All that is not met is told at once, with its numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds.batches import builds_of
from hooks.builds.report_reading import Found, reports_of_build
from hooks.builds.reports.model import ReportStatus, ReportType
from hooks.models.build import Build
from hooks.models.build_batch import BuildBatch
from hooks.pipelines.parts import Parts
from hooks.pipelines.promoted import Promoted
from hooks.pipelines.run import Run
from registry.models import Asset, Domain, Package, PackageVersion, Repository
from registry.names import PackageKey
from registry.policy.wildcards import matches
from registry.repos.advisories import SEVERITIES, reaches

LONGEST_AGE = timedelta(days=365)
_AGE = re.compile(r"([0-9]{1,6})([mhd])\Z")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_MOST_NAMED = 5

Attested = Mapping[tuple[str, PackageKey, str], Mapping[str, tuple[str, ...]]]
"""Repository, package and version → file name → the publishers that its provenance names."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is not met, one line each. ``wait_seconds`` is how long to wait where the age alone is not met, else None."""

    unmet: tuple[str, ...] = ()
    wait_seconds: float | None = None


def parse_age(value: str) -> timedelta | None:
    """``90m``, ``24h`` or ``7d``; None for anything else, or for more than a year."""
    found = _AGE.match(value)
    if found is None:
        return None
    age = int(found[1]) * _UNITS[found[2]]
    return age if timedelta(0) < age <= LONGEST_AGE else None


def check_age(value: str) -> str | None:
    """What is wrong with a value of ``MinimumAge``, or None."""
    return None if parse_age(value) else f"{value[:40]!a} is no age like 90m, 24h or 7d, up to 365d"


def check_number(value: str) -> str | None:
    """What is wrong with a value of ``MinimumTests``, or None."""
    good = value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= 1_000_000
    return None if good else f"{value[:40]!a} is no number from 1 to 1000000"


def check_severity(value: str) -> str | None:
    """What is wrong with a value of ``BlockAdvisories``, or None."""
    return None if value in SEVERITIES else f"{value[:40]!a} is none of {', '.join(SEVERITIES)}"


def check_attestations(value: str) -> str | None:
    """What is wrong with a value of ``RequireAttestations``, or None."""
    if value in {"true", "false"} or (":" in value and value.isprintable() and len(value) <= 255):
        return None
    return f"{value[:40]!a} is neither 'true' nor a publisher like Entrepot:ci-bot or GitHub:acme/*"


def judge(
    session: Session,
    parts: Parts,
    run: Run,
    settings: Mapping[str, str],
    versions: Sequence[Promoted],
    attested: Attested | None,
    now: datetime,
) -> Verdict:
    """Hold what is promoted against the gates, each version as it is in the repository that it comes from.

    ``attested`` is what was read of its provenance; it is looked at where a publisher is asked for. What is not there is
    not met: no report, no attestation, no version. A version that is not there is left to the promotion to refuse.
    """
    unmet: list[str] = []
    if settings.get("RequireReports") == "true" or settings.get("MinimumTests"):
        unmet += _reports(session, run, int(settings.get("MinimumTests") or 0))
    waits: list[tuple[timedelta, str]] = []
    for each in versions:
        files = _files(session, run.execution.domain, each)
        wanted = settings.get("RequireAttestations", "false")
        if wanted != "false":
            unmet += _attestations(each, files, wanted, attested)
        if settings.get("BlockAdvisories"):
            unmet += _advisories(session, parts, each, settings["BlockAdvisories"])
        missing = _missing_age(files, settings.get("MinimumAge"), now)
        if missing is not None:
            of = f" of {each.key.path} {each.version}" if len(versions) > 1 else ""
            waits.append(
                (missing, f"age{of}: {_words(missing)} of {settings['MinimumAge']} in {each.repository} are missing")
            )
    if not waits:
        return Verdict(tuple(unmet))
    told = tuple(text for _, text in waits)
    is_patient = settings.get("WaitForAge") == "true" and not unmet
    return Verdict((*unmet, *told), max(waits)[0].total_seconds() if is_patient else None)


@dataclass(frozen=True, slots=True)
class _File:
    sha256: str
    is_attested: bool
    since: datetime


def _files(session: Session, domain: str, promoted: Promoted) -> Mapping[str, _File]:
    """The files as they are in the repository; ``since`` is when both the file and the version were there."""
    rows = session.execute(
        select(
            Asset.filename,
            Asset.sha256,
            Asset.provenance_blob_id,
            Asset.published_at,
            PackageVersion.published_at.label("version_at"),
        )
        .join(PackageVersion, PackageVersion.id == Asset.version_id)
        .join(Package, Package.id == PackageVersion.package_id)
        .join(Repository, Repository.id == Package.repository_id)
        .join(Domain, Domain.id == Repository.domain_id)
        .where(
            Domain.name == domain,
            Repository.name == promoted.repository,
            Package.format == promoted.key.format,
            Package.namespace == promoted.key.namespace,
            Package.name == promoted.key.name,
            PackageVersion.version == promoted.version,
        )
    )
    return {
        row.filename: _File(row.sha256, row.provenance_blob_id is not None, max(row.published_at, row.version_at))
        for row in rows
        if row.filename in promoted.assets
    }


def _missing_age(files: Mapping[str, _File], wanted: str | None, now: datetime) -> timedelta | None:
    age = parse_age(wanted) if wanted else None
    if age is None or not files:
        return None
    missing = max(file.since for file in files.values()) + age - now
    return missing if missing > timedelta(0) else None


def _reports(session: Session, run: Run, minimum: int) -> list[str]:
    found = [report for build_id in _builds(session, run) for report in reports_of_build(session, build_id)]
    if not found:
        return ["reports: the builds of this execution have left none"]
    unmet = []
    bad = [each for each in found if each.report.status != ReportStatus.SUCCEEDED]
    if bad:
        told = "; ".join(_report(each) for each in bad[:_MOST_NAMED])
        unmet.append(f"reports: {len(bad)} of {len(found)} are not SUCCEEDED ({told})")
    tests = sum(each.report.succeeded for each in found if each.group.type == ReportType.TEST)
    if tests < minimum:
        unmet.append(f"tests: {tests} succeeded, at least {minimum} have to")
    return unmet


def _report(found: Found) -> str:
    report = found.report
    failed = report.failed + report.error
    return f"{found.group.name} is {report.status}" + (f": {failed} of {report.total} failed" if failed else "")


def _builds(session: Session, run: Run) -> Sequence[str]:
    """The builds of the attempts that count; those of a batch, one by one: of each the newest."""
    made: list[str] = []
    for row in (*run.inherited.values(), *run.actions.values()):
        if row.build_id is None:
            continue
        if session.get(BuildBatch, row.build_id) is not None:
            made += [builds[0].id for builds in builds_of(session, row.build_id).values()]
        elif session.get(Build, row.build_id) is not None:
            made.append(row.build_id)
    return made


def _attestations(promoted: Promoted, files: Mapping[str, _File], wanted: str, attested: Attested | None) -> list[str]:
    met: Callable[[str], bool] = lambda name: name in files and files[name].is_attested  # noqa: E731
    if wanted != "true":
        by = (attested or {}).get((promoted.repository, promoted.key, promoted.version), {})
        met = lambda name: any(matches(wanted, each) for each in by.get(name, ()))  # noqa: E731
    lacking = [name for name in sorted(promoted.assets) if not met(name)]
    if not lacking:
        return []
    more = f" and {len(lacking) - _MOST_NAMED} more" if len(lacking) > _MOST_NAMED else ""
    whose = "" if wanted == "true" else f" of {wanted}"
    return [f"attestations: none{whose} for {', '.join(lacking[:_MOST_NAMED])}{more}"]


def _advisories(session: Session, parts: Parts, promoted: Promoted, severity: str) -> list[str]:
    if parts.advisories is None:
        return ["advisories: this process knows of none"]
    found = parts.advisories(session, promoted.key, promoted.version)
    blocking = [each for each in found if reaches(each.severity, severity)]
    if not blocking:
        return []
    told = ", ".join(f"{each.id} ({each.severity})" for each in blocking[:_MOST_NAMED])
    return [f"advisories: {len(blocking)} of {severity} or above: {told}"]


def _words(span: timedelta) -> str:
    minutes = -(-int(span.total_seconds()) // 60)
    days, minutes = divmod(minutes, 24 * 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((days, "d"), (hours, "h"), (minutes, "m"))
    return " ".join(f"{number}{unit}" for number, unit in parts if number) or "1m"
