"""``entrepot build reports``: what a build says of its tests and of what they cover."""

from __future__ import annotations

import sys
from typing import Any

import click

from registry.commands.client import Client, with_client
from registry.commands.options import example
from registry.commands.output import cell, json_option, print_rows, say

_REPORT_COLUMNS = (
    ("GROUP", "reportGroup"),
    ("STATUS", "status"),
    ("TOTAL", "testSummary.total"),
    ("PASSED", "testSummary.statusCounts.SUCCEEDED"),
    ("FAILED", "testSummary.statusCounts.FAILED"),
    ("ERROR", "testSummary.statusCounts.ERROR"),
    ("SKIPPED", "testSummary.statusCounts.SKIPPED"),
    ("LINES %", "codeCoverageSummary.lineCoveragePercentage"),
    ("BRANCHES %", "codeCoverageSummary.branchCoveragePercentage"),
    ("MESSAGE", "message"),
)
_SHOWN_FAILURES = 100


@example("entrepot build reports 6f1c0f8e-0d3b-4c0e-9b57-3d1f0a2b4c5d")
@click.command()
@click.argument("build_id", metavar="BUILD")
@json_option
@with_client
def reports(client: Client, build_id: str, *, as_json: bool) -> None:
    """Show a build's test and coverage reports, and which test cases failed.

    Ends with status 1 when a report is FAILED or INCOMPLETE, so that a script can go by it. With --json each report has
    its failed cases in "failedTestCases".
    """
    found = client.get("builds", build_id, "reports")["items"]
    for report in found:
        report["failedTestCases"] = _failed_cases(client, report) if report["testSummary"] is not None else []
    print_rows(found, _REPORT_COLUMNS, as_json=as_json)
    if not as_json:
        for report in found:
            for case in report["failedTestCases"]:
                say(cell(f"{case['status']} {case['testSuiteName']} {case['name']}"))
                for line in case["message"].splitlines()[:10]:
                    say(f"    {cell(line)}")
    if any(report["status"] in {"FAILED", "INCOMPLETE"} for report in found):
        sys.exit(1)


def _failed_cases(client: Client, report: dict[str, Any]) -> list[Any]:
    place = ("reports", report["id"], "test-cases")
    return list(client.items(*place, most=_SHOWN_FAILURES, status="FAILED,ERROR", limit=_SHOWN_FAILURES))
