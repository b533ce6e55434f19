"""What follows what, and the shape of a phase's record."""

from datetime import UTC, datetime, timedelta

import pytest

from hooks.builds.phases import BuildStatus, Fault, Phase, PhaseRecord, next_phase
from hooks.builds.spec import OnFailure

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_success_goes_through_all_phases_in_order():
    phase, seen = Phase.SUBMITTED, [Phase.SUBMITTED]
    while phase is not Phase.COMPLETED:
        phase = next_phase(phase, failed=False)
        seen.append(phase)
    assert seen == list(Phase)


@pytest.mark.parametrize(
    ("phase", "rule", "after"),
    [
        ("SUBMITTED", None, "FINALIZING"),
        ("QUEUED", None, "FINALIZING"),
        ("PROVISIONING", None, "FINALIZING"),
        ("DOWNLOAD_SOURCE", None, "FINALIZING"),
        ("INSTALL", None, "FINALIZING"),
        ("PRE_BUILD", None, "FINALIZING"),
        ("BUILD", None, "POST_BUILD"),
        ("POST_BUILD", None, "UPLOAD_ARTIFACTS"),
        ("UPLOAD_ARTIFACTS", None, "FINALIZING"),
        ("FINALIZING", None, "COMPLETED"),
        ("INSTALL", "ABORT", "FINALIZING"),
        ("BUILD", "ABORT", "FINALIZING"),
        ("POST_BUILD", "ABORT", "FINALIZING"),
        ("INSTALL", "CONTINUE", "PRE_BUILD"),
        ("PRE_BUILD", "CONTINUE", "BUILD"),
        ("BUILD", "CONTINUE", "POST_BUILD"),
        ("POST_BUILD", "CONTINUE", "UPLOAD_ARTIFACTS"),
        ("BUILD", "RETRY", "FINALIZING"),
    ],
)
def test_after_a_failure(phase: str, rule: str | None, after: str):
    assert next_phase(Phase(phase), failed=True, on_failure=OnFailure(rule) if rule else None) is Phase(after)


def test_a_record_has_codebuilds_shape():
    record = PhaseRecord(
        Phase.BUILD, START, BuildStatus.FAILED, START + timedelta(seconds=2.4), (Fault("CODE", "why"),)
    )
    assert record.as_json() == {
        "phaseType": "BUILD",
        "phaseStatus": "FAILED",
        "startTime": "2026-01-02T03:04:05+00:00",
        "endTime": "2026-01-02T03:04:07.400000+00:00",
        "durationInSeconds": 2,
        "contexts": [{"statusCode": "CODE", "message": "why"}],
    }
    assert PhaseRecord(Phase.COMPLETED, START).as_json() == {
        "phaseType": "COMPLETED",
        "startTime": "2026-01-02T03:04:05+00:00",
        "contexts": [],
    }
