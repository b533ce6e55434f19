"""All rows, and the order in which they are measured: servers that stay, big packages, installs; each in several rounds."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from rich.console import Console

from bench import big_families, install_maven, install_npm, install_python, installs, toolbox
from bench.big import Trial
from bench.load import FAULTS, Sample, Unusable
from bench.results import Results
from bench.serving import SUITES, Servers, Suite
from bench.targets import Target
from bench.toolbox import Tool
from bench.workloads import Plan, Run, Workload

INSTALLS = (install_python.FLASK, install_python.SET, install_python.SET_BY_UV, install_npm.SET, install_maven.SET)


def all_rows() -> list[Workload]:
    return list(chain.from_iterable(part.rows for part in (*SUITES, *big_families.FAMILIES, *INSTALLS)))


def tools(wanted: Collection[Workload]) -> dict[str, tuple[Tool, ...]]:
    """What the rows are measured with, apart from the peers."""
    installing = [install for install in INSTALLS if set(install.rows) & set(wanted)]
    found: dict[str, tuple[Tool, ...]] = {install.format: install.tools for install in installing}
    if set(wanted) - set(chain.from_iterable(install.rows for install in INSTALLS)):
        found["reading"] = (toolbox.WRK,)
    return found


def everything(results: Results, folder: Path, run: Run, console: Console) -> None:
    """Measure the rows of ``results``. Raises one of FAULTS when a server of ours cannot be had."""
    for number, suite in enumerate(SUITES):
        _served(results, suite, folder / f"suite{number}", run, console)
    for family in big_families.FAMILIES:
        if set(family.rows) & set(results.rows):
            trial = Trial(family, folder / family.name, run, results.rows)
            for number in range(run.plan.rounds):
                with console.status(f"round {number + 1} of {run.plan.rounds}: {family.title}"):
                    _keep(results, trial.measure(number), console)
    chosen = [install.up_to(results.rows) for install in INSTALLS]
    for number in range(run.plan.rounds):
        for install in (install for install in chosen if install.steps):
            with console.status(f"round {number + 1} of {run.plan.rounds}: {install.rows[0].title}"):
                place = folder / f"{install.rows[0].name}-{number}"
                _keep(results, installs.measure(install, place, run, number), console)


def _keep(results: Results, found: Iterator[tuple[str, str, Sample | Unusable]], console: Console) -> None:
    for row, column, sample in found:
        results.add(row, column, sample)
        console.print(results.last(row, column), style="dim", markup=False)


def _served(results: Results, suite: Suite, folder: Path, run: Run, console: Console) -> None:
    rows = [row for row in results.rows if row in suite.rows]
    if not rows:
        return
    with Servers(run) as servers:
        with console.status("filling the servers"):
            suite.start(servers, folder)
        targets = servers.targets
        for name, fault in servers.faults.items():
            for row in rows:
                results.add(row.name, name, Unusable(fault))
        for target in targets:
            _tried(suite.rows[0], target, replace(run.plan, seconds=1), "warm-up")
        for number in range(run.plan.rounds):
            for row in rows:
                with console.status(f"round {number + 1} of {run.plan.rounds}: {row.title}"):
                    # Each round starts with another one, so that none always has the machine as the last one left it.
                    for target in targets[number % len(targets) :] + targets[: number % len(targets)]:
                        results.add(row.name, target.name, _tried(row, target, run.plan, f"round{number}"))


def _tried(row: Workload, target: Target, plan: Plan, label: str) -> Sample | Unusable:
    try:
        return row.run(target, plan, label)
    except FAULTS as error:
        return error if isinstance(error, Unusable) else Unusable(str(error))
