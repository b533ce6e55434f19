"""What a build tells of its document before the first command, and the runtimes the document wishes for."""

from __future__ import annotations

from collections.abc import Iterator

from hooks.builds.executor import Interrupt, Item, Outcome, Sandbox
from hooks.builds.journal import Journal
from hooks.builds.lacking import BATCH_ALONE, user_warnings
from hooks.builds.plan import BATCH_IDENTIFIER, BuildPlan
from hooks.builds.runtimes import MAX_OUTPUT_BYTES, parse_found, probe_script, provide
from hooks.builds.spec import DEFAULT_FILENAME, BuildSpec


def tell_warnings(spec: BuildSpec, sandbox: Sandbox, journal: Journal, plan: BuildPlan) -> None:
    """Log what the document and the project say without effect, here or anywhere."""
    for warning in plan.outputs.warnings:
        journal.say(f"Warning: {warning}")
    is_of_batch = BATCH_IDENTIFIER in plan.reserved
    users = () if sandbox.has_users else user_warnings(spec, sandbox.variables.get("USER", ""))
    alone = (BATCH_ALONE,) if spec.batch is not None and not is_of_batch else ()
    for warning in (*spec.warnings, *users, *alone):
        journal.say(f"Warning: {DEFAULT_FILENAME}: {warning}")


def tell_phases(spec: BuildSpec, sandbox: Sandbox, journal: Journal) -> None:
    """Log what is going to be done, in CodeBuild's words."""
    for name, version in spec.runtime_versions.items():
        journal.say(f"Selecting '{name}' runtime version '{version}' based on manual selections...")
    if not spec.runtime_versions:
        journal.say("No runtime version selected in buildspec.")
    journal.say(f"Moving to directory {sandbox.source_dir}")
    journal.say("Registering with agent")
    journal.say(f"Phases found in YAML: {len(spec.phases)}")
    for name, phase in spec.phases.items():
        journal.say(f" {name.upper()}: {len(phase.commands)} commands")


def install_runtimes(spec: BuildSpec, sandbox: Sandbox, journal: Journal, interrupt: Interrupt) -> Iterator[Outcome]:
    """Put the runtimes that are wished for first in the sandbox's PATH; how each step ended, for the caller to judge."""
    if not spec.runtime_versions:
        return
    output = bytearray()

    def take(data: bytes) -> None:
        output.extend(data[: MAX_OUTPUT_BYTES - len(output)])

    script = probe_script(list(spec.runtime_versions))
    # Without the state of commands: nothing of the question stays.
    yield sandbox.run(Item(script, carries_state=False), take, interrupt)
    found = parse_found(output.decode(errors="replace"))
    script = provide(spec.runtime_versions, sandbox.environment(), found, journal.say)
    if script:
        outcome = sandbox.run(Item(script), journal.log, interrupt)
        if outcome.exit_code:
            journal.say("Warning: runtime-versions: what is here could not be put first in PATH")
        yield outcome
