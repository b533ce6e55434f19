"""The table of report formats, by CodeBuild's words for them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hooks.builds.reports import (
    clover,
    cobertura,
    cucumber,
    jacoco,
    junit,
    nunit2,
    nunit3,
    simplecov,
    testng,
    trx,
)
from hooks.builds.reports.model import Reader, ReportType

DEFAULT_FORMAT = "JUNITXML"


@dataclass(frozen=True, slots=True)
class ReportFormat:
    """What reads a format's files, and what they tell of."""

    type: ReportType
    read: Reader


FORMATS: Mapping[str, ReportFormat] = MappingProxyType(
    {
        "JUNITXML": ReportFormat(ReportType.TEST, junit.read),
        "CUCUMBERJSON": ReportFormat(ReportType.TEST, cucumber.read),
        "NUNITXML": ReportFormat(ReportType.TEST, nunit2.read),
        "NUNIT3XML": ReportFormat(ReportType.TEST, nunit3.read),
        "TESTNGXML": ReportFormat(ReportType.TEST, testng.read),
        "VISUALSTUDIOTRX": ReportFormat(ReportType.TEST, trx.read),
        "CLOVERXML": ReportFormat(ReportType.CODE_COVERAGE, clover.read),
        "COBERTURAXML": ReportFormat(ReportType.CODE_COVERAGE, cobertura.read),
        "JACOCOXML": ReportFormat(ReportType.CODE_COVERAGE, jacoco.read),
        "SIMPLECOV": ReportFormat(ReportType.CODE_COVERAGE, simplecov.read),
    }
)
