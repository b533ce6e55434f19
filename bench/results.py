"""The figures of a run: kept by row and column, told as medians with their range, as ratios, as JSON and Markdown."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from bench.load import Sample, Unusable
from bench.workloads import Group, Plan, Workload

NOTHING = "-"
EXPECTED = frozenset({"not offered", "no ETag", "no 304"})
OURS, DIRECT = "entrepot, token", "no proxy"
BEGIN, END = "<!-- figures: written by bench/run.py --docs -->", "<!-- end of figures -->"


@dataclass
class Results:
    """Samples by workload and target, one for each round; ``faults`` has why one is missing (the last such fault).

    ``missing`` has why a peer is not there at all.
    """

    plan: Plan
    rows: Sequence[Workload]
    versions: dict[str, str]
    missing: dict[str, str] = field(default_factory=dict)
    rounds: dict[tuple[str, str], list[Sample | None]] = field(default_factory=dict)
    faults: dict[tuple[str, str], str] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)

    def add(self, row: str, column: str, sample: Sample | Unusable) -> None:
        """The next round's."""
        if column not in self.columns:
            self.columns.append(column)
        if isinstance(sample, Unusable):
            self.faults[row, column] = str(sample)
        self.rounds.setdefault((row, column), []).append(None if isinstance(sample, Unusable) else sample)

    def samples(self, row: str, column: str) -> list[Sample]:
        return [sample for sample in self.rounds.get((row, column), []) if sample is not None]

    def pairs(self, row: str, one: str, other: str) -> list[tuple[Sample, Sample]]:
        """Of two columns, in the rounds in which both have a sample."""
        both = zip(self.rounds.get((row, one), []), self.rounds.get((row, other), []), strict=False)
        return [(left, right) for left, right in both if left is not None and right is not None]

    def last(self, row: str, column: str) -> str:
        """What was added last of a cell, for whoever waits."""
        sample = self.rounds[row, column][-1]
        return f"{row}, {column}: {self.faults[row, column] if sample is None else figure(sample.value)}"

    def used_rows(self) -> list[Workload]:
        names = {row for row, _ in self.rounds}
        return [row for row in self.rows if row.name in names]

    def cell(self, row: Workload, column: str) -> str:
        """Median (least to most), and how often there was none; why not, where there never was one."""
        found = [sample.value for sample in self.samples(row.name, column)]
        fault = self.faults.get((row.name, column), "")
        if not found:
            return fault if fault in EXPECTED else "failed" if fault else NOTHING
        failed = len(self.rounds[row.name, column]) - len(found)
        return _spread(found) + (f", {failed} failed" if failed else "")

    def cpu(self, row: Workload, column: str) -> str:
        """Median of the server's CPU microseconds for each request."""
        return _middle(sample.cpu_us_per_request for sample in self.samples(row.name, column))

    def memory(self, column: str) -> str:
        """Most resident memory seen after any workload, MiB."""
        samples = [sample for row, name in self.rounds if name == column for sample in self.samples(row, name)]
        found = [sample.resident_mib for sample in samples if sample.resident_mib is not None]
        return figure(max(found)) if found else NOTHING

    def ratio(self, row: Workload, column: str) -> str:
        """How many times as fast as ``column`` we are: the median over the rounds of both in the same round."""
        found = [
            theirs.value / ours.value if row.is_lower_better else ours.value / theirs.value
            for ours, theirs in self.pairs(row.name, OURS, column)
        ]
        return f"{figure(median(found))} x" if found else NOTHING

    def to_direct(self, row: Workload, column: str) -> str:
        """How many times as long as without a proxy, in the same round: median (least to most)."""
        return _spread([theirs.value / direct.value for theirs, direct in self.pairs(row.name, column, DIRECT)])

    def cpu_seconds(self, row: Workload, column: str) -> str:
        """Median of the processor seconds of the server for one install; of the client's, where there is none."""
        return _middle(
            sample.client_cpu_seconds if sample.cpu_us_per_request is None else sample.cpu_us_per_request / 1e6
            for sample in self.samples(row.name, column)
        )

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Title, head and lines of each table."""
        tables: list[tuple[str, list[str], list[list[str]]]] = []
        for group in Group:
            rows = [row for row in self.used_rows() if row.group is group]
            names = {row.name for row in rows}
            columns = [column for column in self.columns if any(self.samples(name, column) for name in names)]
            if rows:
                tables += self._of_group(group, rows, columns)
        served = [column for column in self.columns if self.memory(column) != NOTHING]
        title = "Most resident memory of all of a server's processes, MiB (shared pages count in each)"
        return [*tables, (title, served, [[self.memory(column) for column in served]])] if served else tables

    def _of_group(
        self, group: Group, rows: list[Workload], columns: list[str]
    ) -> Iterator[tuple[str, list[str], list[list[str]]]]:
        others = [column for column in columns if column != OURS]
        yield (
            f"{group.value}: median of the rounds (least to most)",
            ["workload", "unit", *columns],
            [[row.title, row.unit, *(self.cell(row, column) for column in columns)] for row in rows],
        )
        if group is Group.INSTALLS:
            proxies = [column for column in columns if column != DIRECT]
            yield (
                f"{group.value}: times as long as without one, in the same round (least to most)",
                ["workload", *proxies],
                [[row.title, *(self.to_direct(row, column) for column in proxies)] for row in rows],
            )
        yield (
            f"{group.value}: {OURS}, against each; above 1 is faster",
            ["workload", *others],
            [[row.title, *(self.ratio(row, column) for column in others)] for row in rows],
        )
        if group is Group.INSTALLS:
            yield (
                f"{group.value}: CPU seconds of the server for each install (without a proxy: the client's own)",
                ["workload", *columns],
                [[row.title, *(self.cpu_seconds(row, column) for column in columns)] for row in rows],
            )
        else:
            yield (
                f"{group.value}: CPU microseconds of the server for each request",
                ["workload", *columns],
                [[row.title, *(self.cpu(row, column) for column in columns)] for row in rows],
            )

    def show(self, console: Console) -> None:
        for title, head, lines in self.tables():
            table = Table(title=title, title_justify="left")
            for number, name in enumerate(head):
                table.add_column(name, justify="left" if number == 0 else "right")
            for line in lines:
                table.add_row(line[0], *(cell.replace(" (", "\n(") for cell in line[1:]))
            console.print(table)
        for (row, column), fault in self.faults.items():
            if fault not in EXPECTED:
                console.print(f"{row}, {column}: {fault}", style="dim", markup=False)

    def write_json(self, path: Path) -> None:
        document = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": self.versions,
            "plan": asdict(self.plan),
            "missing": self.missing,
            "faults": [{"workload": row, "target": column, "why": why} for (row, column), why in self.faults.items()],
            "results": [
                {
                    "workload": row.name,
                    "unit": row.unit,
                    "target": column,
                    "samples": [None if sample is None else sample.as_json() for sample in samples],
                }
                for row in self.rows
                for (name, column), samples in self.rounds.items()
                if name == row.name
            ],
        }
        path.write_text(json.dumps(document, indent=1) + "\n")

    def write_docs(self, path: Path) -> None:
        """Put the tables between the marks of a Markdown page. Raises ValueError when it has none."""
        before, begin, rest = path.read_text().partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise ValueError(f"{path} has no marks for the figures")
        path.write_text(f"{before}{BEGIN}\n\n{self.markdown()}\n{END}{after}")

    def markdown(self) -> str:
        facts = machine()
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        plan = self.plan
        head = (
            f"Measured on {datetime.now(UTC):%Y-%m-%d}: {facts['cores']} cores of {facts['cpu']}, {facts['memory_gib']} GiB, "
            f"{facts['system']}, Python {facts['python']}. {plan.rounds} rounds, {plan.seconds} s for each reading workload, "
            f"many files: {plan.many_files}; large file: {plan.large_bytes >> 20} MiB down, {plan.huge_bytes >> 20} MiB up; "
            f"uploads: {plan.uploads} files, by twine {plan.twine_files}; "
            f"thousands: {plan.thousands:,}. Versions: {versions}."
        )
        if self.missing:
            head += f" Could not be installed, and so not measured: {', '.join(self.missing)}."
        lines = [head, ""]
        for title, names, rows in self.tables():
            lines += [f"**{title}**", "", _line(names), _line(["---", *["---:"] * (len(names) - 1)])]
            lines += [*map(_line, rows), ""]
        return "\n".join(lines)


def _middle(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return figure(median(known)) if known else NOTHING


def _spread(found: Sequence[float]) -> str:
    """Median (least to most)."""
    if not found:
        return NOTHING
    text = figure(median(found))
    return text if len(found) == 1 else f"{text} ({figure(min(found))} to {figure(max(found))})"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def figure(value: float) -> str:
    """Three significant digits, which is more than such measurements hold."""
    if value >= 999.5:
        return f"{round(value, -int(len(str(int(value))) - 3)):,.0f}"
    return f"{value:.3g}"


def machine() -> dict[str, object]:
    """Cores, processor model, memory, system."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": model,
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": f"{platform.freedesktop_os_release().get('PRETTY_NAME', '')}, Linux {platform.release()}",
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }
