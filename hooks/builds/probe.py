"""Whether a sandbox keeps its promises on this very machine: found out by attacking one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hooks.builds import attacks, seccomp
from hooks.builds.executor import Item, Sandbox, SandboxRequest, SourceBundle, SourceFile, StopReason

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One attempt. ``refused`` is what it should be; ``detail`` says how it was refused or what got through."""

    name: str
    refused: bool
    detail: str


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """All attempts, and how memory and processes are limited."""

    findings: tuple[Finding, ...]
    is_complete: bool
    limits: str

    @property
    def ok(self) -> bool:
        """Whether every attempt was made and refused."""
        return self.is_complete and all(finding.refused for finding in self.findings)

    @property
    def summary(self) -> str:
        """One line for the operator."""
        open_doors = [f"{finding.name} ({finding.detail})" for finding in self.findings if not finding.refused]
        if open_doors:
            return "the sandbox lets through: " + "; ".join(open_doors)
        if not self.is_complete:
            return "the sandbox could not be tested to the end"
        return f"{len(self.findings)} ways out were tried and refused; {self.limits}"


def attack(
    prepare: Callable[[SandboxRequest], Sandbox],
    limits: str,
    *,
    interpreter: str = "/usr/bin/python3",
    expected: Mapping[str, Sequence[str]] | None = None,
) -> ProbeReport:
    """Attack a fresh sandbox of ``prepare``, which is as ``attacks.EXPECTED`` but for ``expected``.

    Raises ExecutorError when there is none, and Refused.
    """
    script = Path(attacks.__file__)
    source = SourceBundle((SourceFile(script.name, lambda: script.open("rb")),))
    numbers = json.dumps(dict(seccomp.denied()))
    arguments = f"{shlex.quote(numbers)} {shlex.quote(json.dumps(expected or {}))}"
    command = f'exec {interpreter} -I -S "$ENTREPOT_ASSETS_DIR/{script.name}" {arguments}'
    output = bytearray()
    sandbox = prepare(SandboxRequest("probe"))
    try:
        sandbox.fetch(source, output.extend, _never)
        sandbox.run(Item(command), output.extend, _never)
    finally:
        sandbox.destroy()
    return _report(bytes(output), limits)


def _never() -> StopReason | None:
    return None


def _report(output: bytes, limits: str) -> ProbeReport:
    findings: list[Finding] = []
    is_complete = False
    for line in output.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            findings.append(Finding("the attack itself", refused=False, detail=line[:200].decode(errors="replace")))
            continue
        if "complete" in entry:
            is_complete = True
        else:
            findings.append(Finding(entry["name"], entry["refused"], entry["detail"]))
    return ProbeReport(tuple(findings), is_complete, limits)
