"""Measure Entrepot beside its peers, nginx and a bare WSGI app: same files, same machine, in turn.

    .venv/bin/python bench/run.py                       everything, an hour on an idle machine
    .venv/bin/python bench/run.py --quick               does it work? (some minutes; its figures mean nothing)
    .venv/bin/python bench/run.py --only page --only file-10k --peers nginx,pypiserver
    .venv/bin/python bench/run.py --only pyset --only npmset --peers none --rounds 1     installs, without the peers
    .venv/bin/python bench/run.py --json figures.json --docs docs/benchmarks.md

All servers listen on loopback and end with this program. Nothing here judges a figure: what a machine's neighbours do
would decide it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import FrameType

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout, where it was this folder

from rich.console import Console  # noqa: E402

from bench import measuring, peers, toolbox, workloads  # noqa: E402
from bench.load import FAULTS  # noqa: E402
from bench.results import Results  # noqa: E402
from bench.workloads import Run  # noqa: E402

LONGEST_RUN_SECONDS = 2 * 3600
console = Console() if sys.stdout.isatty() else Console(width=180)


class Ended(Exception):
    """It took too long, or somebody ended it: what was measured is shown."""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    default_cache = os.environ.get("ENTREPOT_BENCH_CACHE") or Path.home() / ".cache" / "entrepot-bench"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="how often everything is measured (3)")
    parser.add_argument("--seconds", type=int, help="length of each reading measurement (4)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="workloads that start with NAME")
    parser.add_argument("--peers", default=",".join(peers.ALL), help="comma-separated: %(default)s; or none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="put the tables into a Markdown page")
    parser.add_argument("--cache", type=Path, default=default_cache, help="where peers are installed (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one short round with small files")
    options = parser.parse_args(given)
    options.peers = tuple(name.strip() for name in options.peers.split(",") if name.strip() not in {"", "none"})
    if unknown := set(options.peers) - set(peers.ALL):
        parser.error(f"unknown peers: {', '.join(sorted(unknown))}; known are {', '.join(peers.ALL)}")
    rows = measuring.all_rows()
    options.rows = [row for row in rows if not options.only or row.name.startswith(tuple(options.only))]
    if not options.rows:
        parser.error(f"--only names no workload; there are {', '.join(row.name for row in rows)}")
    base = workloads.QUICK if options.quick else workloads.FULL
    options.plan = replace(base, rounds=options.rounds or base.rounds, seconds=options.seconds or base.seconds)
    return options


def install_tools(options: argparse.Namespace) -> dict[str, str]:
    """What the rows and peers need. A peer that cannot be had is left out; gives why, by name."""
    missing: dict[str, str] = {}
    for name, tools in {**measuring.tools(options.rows), **{name: peers.ALL[name] for name in options.peers}}.items():
        try:
            for tool in tools:
                with console.status(f"installing {tool.name}"):
                    tool.install(options.cache)
        except toolbox.NotInstalled as error:
            if name not in peers.ALL:
                sys.exit(f"{name} cannot be measured: {error}")
            missing[name] = str(error)
            console.print(f"not measured: {name}, which could not be installed: {error}", markup=False)
    options.peers = tuple(name for name in options.peers if name not in missing)
    return missing


def versions(options: argparse.Namespace) -> dict[str, str]:
    """What is measured, and with what."""
    found = {name: version(name) for name in ("entrepot", "gunicorn", "flask", "sqlalchemy", "uv")}
    chosen = [*measuring.tools(options.rows).values(), *(peers.ALL[name] for name in options.peers)]
    return found | {tool.name: tool.version(options.cache) for tools in chosen for tool in tools}


def end(number: int, _frame: FrameType | None) -> None:
    raise Ended("the benchmark took too long" if number == signal.SIGALRM else "somebody ended it")


def main() -> None:
    options = arguments()
    options.cache.mkdir(parents=True, exist_ok=True)
    missing = install_tools(options)
    results = Results(options.plan, options.rows, versions(options), missing)
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, end)
    signal.alarm(LONGEST_RUN_SECONDS)
    fault = ""
    with tempfile.TemporaryDirectory(dir=options.cache, prefix="run-") as name:
        try:
            measuring.everything(results, Path(name), Run(options.plan, options.peers, options.cache), console)
        except (*FAULTS, Ended) as error:
            fault = f"not everything was measured: {error}"
    if options.json:
        results.write_json(options.json)
    results.show(console)
    if fault:
        sys.exit(fault)
    if options.docs:
        results.write_docs(options.docs)


if __name__ == "__main__":
    main()
