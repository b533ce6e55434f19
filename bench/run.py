"""Measure Entrepot beside pypiserver, devpi-server, nginx and a bare WSGI app: same files, same machine, in turn.

    .venv/bin/python bench/run.py                       everything, a quarter of an hour on an idle machine
    .venv/bin/python bench/run.py --quick               does it work? (a minute; its figures mean nothing)
    .venv/bin/python bench/run.py --only page --only file-10k --peers nginx,pypiserver
    .venv/bin/python bench/run.py --json figures.json --docs docs/benchmarks.md

All servers listen on loopback and end with this program. Nothing here judges a figure: what a machine's neighbours do
would decide it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout, where it was this folder

from rich.console import Console  # noqa: E402

from bench import install_maven, install_npm, install_python, installs, peers, toolbox, workloads  # noqa: E402
from bench.load import Sample, Unusable, wrk  # noqa: E402
from bench.processes import CouldNotStart  # noqa: E402
from bench.results import Results  # noqa: E402
from bench.targets import HTML, Target, entrepot, fill  # noqa: E402

PROGRAMS = {"wrk": "wrk", "nginx": "nginx-light"}
INSTALLS = (install_python.FLASK, install_python.SET, install_python.SET_BY_UV, install_npm.SET, install_maven.SET)
LONGEST_RUN_SECONDS = 2 * 3600
console = Console() if sys.stdout.isatty() else Console(width=180)


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
    rows = [*workloads.SERVED, *(row for install in INSTALLS for row in install.rows)]
    options.rows = [row for row in rows if not options.only or row.name.startswith(tuple(options.only))]
    if not options.rows:
        parser.error(f"--only names no workload; there are {', '.join(row.name for row in rows)}")
    options.installs = [found for found in (install.up_to(options.rows) for install in INSTALLS) if found.steps]
    base = workloads.QUICK if options.quick else workloads.FULL
    options.plan = replace(base, rounds=options.rounds or base.rounds, seconds=options.seconds or base.seconds)
    return options


def install_programs() -> None:
    """wrk and nginx from the system's packages. Ends the program when they are missing and cannot be installed."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(f"please install: {' '.join(missing)}")
    console.print(f"installing {' '.join(missing)}")
    # Runlevel 1 keeps the package from starting a web server of its own on port 80.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
        subprocess.run(["apt-get", *command], env=environment, check=True, stdout=subprocess.DEVNULL, timeout=600)


def install_tools(options: argparse.Namespace) -> dict[str, str]:
    """The programs of the wanted peers and clients; a peer that cannot be had is left out. Gives why, by name."""
    wanted = {name: peers.ALL[name] for name in options.peers}
    if any(install.format == install_python.FORMAT for install in options.installs):
        wanted["pip"] = toolbox.PIP
    missing: dict[str, str] = {}
    for name, tool in wanted.items():
        try:
            if tool is not None:
                with console.status(f"installing {tool.name}"):
                    tool.install(options.cache)
        except toolbox.NotInstalled as error:
            missing[name] = str(error)
            console.print(f"not measured: {name}, which could not be installed: {error}", markup=False)
    if "pip" in missing:
        sys.exit("there is no pip to measure with")
    options.peers = tuple(name for name in options.peers if name not in missing)
    return missing


def start_all(stack: ExitStack, folder: Path, options: argparse.Namespace) -> list[Target]:
    """Every wanted server, with the same files in it."""
    files = workloads.reading(options.plan)
    ours = stack.enter_context(entrepot(folder / "entrepot")).targets()
    console.print(f"uploading {len(files)} files to each server")
    fill(ours[0], files)
    targets = list(ours)
    site = folder / "site"
    peers.make_site(ours[0], files, site)
    if "bare wsgi" in options.peers:
        targets.append(stack.enter_context(peers.bare_wsgi(folder / "bare", site)))
    if "nginx" in options.peers:
        targets.append(stack.enter_context(peers.nginx(folder / "nginx", site)))
    if "pypiserver" in options.peers:
        targets.append(stack.enter_context(peers.pypiserver(folder / "pypiserver", options.cache)))
        fill(targets[-1], files)
    if {"devpi", "devpi + nginx"} & set(options.peers):
        devpi = stack.enter_context(peers.devpi(folder / "devpi", options.cache))
        fill(devpi, files)
        front = stack.enter_context(peers.devpi_behind_nginx(folder / "front", folder / "devpi" / "data", devpi))
        targets += [target for target in (devpi, front) if target.name in options.peers]
    return targets


def measure_served(results: Results, folder: Path, options: argparse.Namespace) -> None:
    rows = [row for row in options.rows if row in workloads.SERVED]
    if not rows:
        return
    install_programs()
    with ExitStack() as stack:
        targets = start_all(stack, folder, options)
        for target in targets:
            wrk(target.page("bench-five", HTML), target.server, seconds=1, connections=16, as_mb_per_second=False)
        for number in range(options.plan.rounds):
            for row in rows:
                with console.status(f"round {number + 1} of {options.plan.rounds}: {row.title}"):
                    # Each round starts with another one, so that none always has the machine as the last one left it.
                    for target in targets[number % len(targets) :] + targets[: number % len(targets)]:
                        results.add(row.name, target.name, _tried(row, target, options.plan, f"round{number}"))


def _tried(row: workloads.Workload, target: Target, plan: workloads.Plan, label: str) -> Sample | Unusable:
    try:
        return row.run(target, plan, label)
    except Unusable as error:
        return error


def measure_installs(results: Results, folder: Path, options: argparse.Namespace) -> None:
    for number in range(options.plan.rounds):
        for install in options.installs:
            name = install.rows[0].name
            with console.status(f"round {number + 1} of {options.plan.rounds}: {install.rows[0].title}"):
                place = folder / f"{name}-{number}"
                for found in installs.measure(
                    install, place, options.cache, options.peers, number, most_runs=options.plan.most_runs
                ):
                    results.add(*found)
                    console.print(results.last(*found[:2]), style="dim", markup=False)


def end(number: int, _frame: FrameType | None) -> None:
    sys.exit("the benchmark took too long and was ended" if number == signal.SIGALRM else "ended")


def main() -> None:
    options = arguments()
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGALRM, end)
    signal.alarm(LONGEST_RUN_SECONDS)
    options.cache.mkdir(parents=True, exist_ok=True)
    missing = install_tools(options)
    results = Results(options.plan, options.rows, peers.versions(options.cache, options.peers), missing)
    with tempfile.TemporaryDirectory(dir=options.cache, prefix="run-") as name:
        try:
            measure_served(results, Path(name), options)
            measure_installs(results, Path(name), options)
        except (CouldNotStart, Unusable) as error:
            sys.exit(f"could not be measured: {error}")
    results.show(console)
    if options.json:
        results.write_json(options.json)
    if options.docs:
        results.write_docs(options.docs)


if __name__ == "__main__":
    main()
