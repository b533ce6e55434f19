"""One build from its first phase to its last. Knows neither database nor network: executor and reporter do.

The log keeps CodeBuild's words ("Running command", "Phase complete: BUILD State: SUCCEEDED"): people grep for them.
"""

from __future__ import annotations

import time

from hooks.builds import caching
from hooks.builds.artifacts_upload import UploadFailed, upload
from hooks.builds.debugging import Halts
from hooks.builds.evaluate import Bench
from hooks.builds.executor import (
    Ended,
    Executor,
    ExecutorError,
    Interrupt,
    Item,
    Outcome,
    Refused,
    Sandbox,
    SandboxRequest,
    StopReason,
)
from hooks.builds.exported import bounded
from hooks.builds.journal import BuildReporter, Journal
from hooks.builds.log_size import MAX_SPEC_BYTES
from hooks.builds.patterns import is_found
from hooks.builds.phases import (
    CLIENT_ERROR,
    COMMAND_EXECUTION_ERROR,
    COMMAND_PHASES,
    YAML_FILE_ERROR,
    BuildStatus,
    Fault,
    Phase,
    next_phase,
)
from hooks.builds.plan import BuildOutcome, BuildPlan
from hooks.builds.preparing import install_runtimes, tell_phases, tell_warnings
from hooks.builds.project import is_inline
from hooks.builds.references import Unresolved, Values, resolve
from hooks.builds.reporting import collect_reports
from hooks.builds.spec import (
    DEFAULT_FILENAME,
    BuildSpec,
    FailureRule,
    OnFailure,
    parse_buildspec,
)
from registry.clock import Clock
from registry.errors import InvalidDocument


class Abandoned(Exception):
    """The build was broken off because somebody else may own it by now; nothing may be written about it."""


class _Interrupted(Exception):
    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason)
        self.reason = reason


class _PhaseFailed(Exception):
    def __init__(self, status_code: str, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(status_code, message)


def run_build(
    plan: BuildPlan, executor: Executor, reporter: BuildReporter, interrupt: Interrupt, clock: Clock
) -> BuildOutcome:
    """Carry ``plan`` out, anew as often as a RETRY rule says.

    Raises ExecutorError when it could not be run, and Abandoned when ``interrupt`` says LOST; in both cases no sandbox
    is left.
    """
    deadline = time.monotonic() + plan.timeout_seconds

    def interrupt_or_time() -> StopReason | None:
        return interrupt() or (StopReason.TIMED_OUT if time.monotonic() > deadline else None)

    retries = 0
    while True:
        attempt = _Attempt(plan, executor, reporter, interrupt_or_time, clock)
        outcome = attempt.run()
        rule = attempt.retry_rule
        if rule is None or retries >= rule.retries:
            attempt.journal.say(f"Build complete: {outcome.status.value}")
            attempt.journal.flush()
            return outcome
        retries += 1
        attempt.journal.say(f"Retrying the whole build ({retries} of at most {rule.retries})")
        attempt.journal.flush()


class _Attempt:
    """One pass through the phases with one sandbox."""

    def __init__(
        self, plan: BuildPlan, executor: Executor, reporter: BuildReporter, interrupt: Interrupt, clock: Clock
    ) -> None:
        self._plan = plan
        self._executor = executor
        self._reporter = reporter
        self._interrupt = interrupt
        self._clock = clock
        self.journal = Journal(reporter, clock, plan.secrets)
        self._sandbox: Sandbox | None = None
        self._sandbox_is_gone = False
        self._spec = BuildSpec("0.2")
        self._last_exit = 0
        self._exported: dict[str, str] = {}
        self._cache: caching.Cache | None = None
        self._secret_names: frozenset[str] = frozenset()
        self._status = BuildStatus.SUCCEEDED
        self.retry_rule: FailureRule | None = None

    def run(self) -> BuildOutcome:
        """Go through the phases. Raises ExecutorError, Abandoned."""
        self.journal.begin(self._plan.submitted_at)
        phase = Phase.PROVISIONING
        try:
            while phase is not Phase.COMPLETED:
                phase = self._pass_through(phase)
            self.journal.enter(Phase.COMPLETED)
        except _Interrupted as interrupted:
            self._note_interruption(interrupted.reason)
        finally:
            self._destroy()
        return BuildOutcome(self._status, self.journal.records, self._exported)

    # --- phases

    def _pass_through(self, phase: Phase) -> Phase:
        """Enter, perform and leave one phase; the next one."""
        self.journal.enter(phase)
        self._check_interrupt()
        rule = self._spec.phase(COMMAND_PHASES[phase]).on_failure if phase in COMMAND_PHASES else None
        try:
            self._perform(phase)
        except _PhaseFailed as failure:
            self._status = BuildStatus.FAILED
            self.journal.leave(BuildStatus.FAILED, failure.fault)
            if rule is not None and self._is_retried(rule):
                self.retry_rule = rule
            if self._sandbox_is_gone and phase is not Phase.FINALIZING:
                return Phase.FINALIZING
            return next_phase(phase, failed=True, on_failure=rule.action if rule else None)
        self.journal.leave(BuildStatus.SUCCEEDED)
        return next_phase(phase, failed=False)

    def _is_retried(self, rule: FailureRule) -> bool:
        """Whether the phase left last, which failed, is a reason to start anew; its message is what people see, too."""
        if rule.action is not OnFailure.RETRY:
            return False
        messages = [fault.message for fault in self.journal.records[-1].faults]
        if not rule.pattern or any(is_found(rule.pattern, message) for message in messages):
            return True
        self.journal.say(f"Not retrying: the message holds no match of {rule.pattern}")
        return False

    def _perform(self, phase: Phase) -> None:
        if phase is Phase.PROVISIONING:
            plan = self._plan
            self.journal.say("Waiting for agent ping")
            request = SandboxRequest(
                plan.build_id,
                plan.network,
                plan.credentials,
                plan.home_files,
                plan.room,
                self.journal.say,
                plan.publishing,
            )
            try:
                self._sandbox = self._executor.prepare(request)
            except Refused as error:
                raise _PhaseFailed(CLIENT_ERROR, str(error)) from error
        elif phase is Phase.DOWNLOAD_SOURCE:
            self._download_source()
        elif phase is Phase.UPLOAD_ARTIFACTS:
            faults = self._collect_reports()
            self._upload_artifacts()
            if faults and self._spec.is_strict and self._status is BuildStatus.SUCCEEDED:
                raise _PhaseFailed(CLIENT_ERROR, "; ".join(faults))
        elif phase is Phase.FINALIZING:
            self._finalize()
        else:
            self.journal.say(f"Entering phase {phase.value}")
            if phase is Phase.INSTALL:
                for outcome in install_runtimes(self._spec, self._room(), self.journal, self._interrupt):
                    self._check(outcome)
            self._run_commands(phase)

    def _note_interruption(self, reason: StopReason) -> None:
        self.retry_rule = None
        if reason is StopReason.LOST:
            raise Abandoned(self._plan.build_id)
        self._status = BuildStatus.STOPPED if reason is StopReason.STOPPED else BuildStatus.TIMED_OUT
        text = "the build was stopped" if reason is StopReason.STOPPED else "the build took longer than its time-out"
        self.journal.leave(self._status, Fault("BUILD_" + self._status.value, text))

    # --- what the phases do

    def _download_source(self) -> None:
        sandbox = self._room()
        self.journal.say("Waiting for DOWNLOAD_SOURCE")
        try:
            outcome = sandbox.fetch(self._plan.source, self.journal.log, self._interrupt)
        except Refused as error:
            raise _PhaseFailed(CLIENT_ERROR, str(error)) from error
        self._check(outcome)
        if not outcome.succeeded:
            raise _PhaseFailed(CLIENT_ERROR, outcome.detail or f"the source {self._plan.source.unpack} is not usable")
        self.journal.say("Phase is DOWNLOAD_SOURCE")
        self.journal.say(f"CODEBUILD_SRC_DIR={sandbox.source_dir}")
        text, self._spec = self._read_spec(sandbox)
        tell_warnings(self._spec, sandbox, self.journal, self._plan)
        if self._plan.on_spec is not None:
            faults = self._plan.on_spec(text, self._spec)
            if faults:
                raise _PhaseFailed(YAML_FILE_ERROR, "; ".join(faults))
            self._spec = BuildSpec("0.2")  # others build what it says
        self.journal.say("Processing environment variables")
        values = self._resolve()
        sandbox.define(
            {
                **sandbox.variables,
                **self._plan.environment,
                **self._spec.variables,
                **values.weak,
                **self._plan.overrides,
                **values.strong,
                **sandbox_reserved(sandbox),
                **self._plan.reserved,
                **self._plan.source.facts(),
            }
        )
        tell_phases(self._spec, sandbox, self.journal)
        self._restore_cache()

    def _resolve(self) -> Values:
        plan = self._plan
        try:
            values = resolve(self._spec, plan.overrides, plan.references, plan.resolver, self.journal)
        except Unresolved as error:
            raise _PhaseFailed(error.status_code, str(error)) from error
        self._secret_names = values.names
        return values

    def _read_spec(self, sandbox: Sandbox) -> tuple[str, BuildSpec]:
        text = self._plan.spec_text
        if text is None or not is_inline(text):
            name = text or DEFAULT_FILENAME
            path = f"{sandbox.source_dir}/{name}"
            self.journal.say(f"YAML location is {path}")
            content = sandbox.read_file(name, MAX_SPEC_BYTES)
            if content is None:
                raise _PhaseFailed(YAML_FILE_ERROR, f"YAML file does not exist: {path}")
            text = content.decode(errors="replace")
        else:
            self.journal.say("YAML location is the build project")
        try:
            return text, parse_buildspec(text)
        except InvalidDocument as error:
            for fault in error.faults:
                self.journal.say(f"{error.document}: {fault}")
            raise _PhaseFailed(YAML_FILE_ERROR, str(error)) from error

    def _run_commands(self, phase: Phase) -> None:
        spec = self._spec.phase(COMMAND_PHASES[phase])
        failure: _PhaseFailed | None = None
        for commands in (spec.commands, spec.finally_commands):
            try:
                for command in commands:
                    self._run_command(command, self._spec.user_of(COMMAND_PHASES[phase]))
            except _PhaseFailed as error:
                # From here on CODEBUILD_BUILD_SUCCEEDING is 0, also for `finally`.
                self._status = BuildStatus.FAILED
                failure = failure or error
            if self._sandbox_is_gone:
                break
        if failure is not None:
            raise failure

    def _run_command(self, command: str, user: str) -> None:
        self.journal.say(f"Running command {command}")
        halts = Halts(self._plan.debug, self.journal.say) if self._plan.debug is not None else None
        item = Item(command, self._spec.shell, self._told(), self._spec.carries_state, user, halts)
        outcome = self._room().run(item, self.journal.log, self._interrupt)
        self._check(outcome)
        self._last_exit = outcome.exit_code or 0
        if not outcome.succeeded:
            more = f" ({outcome.detail.lstrip('; ')})" if outcome.detail else ""
            self.journal.say(f"Command did not exit successfully {command} exit status {outcome.exit_code}")
            raise _PhaseFailed(
                COMMAND_EXECUTION_ERROR,
                f"Error while executing command: {command}. Reason: exit status {outcome.exit_code}{more}",
            )

    def _told(self) -> dict[str, str]:
        return {
            "CODEBUILD_BUILD_SUCCEEDING": "1" if self._status is BuildStatus.SUCCEEDED else "0",
            "CODEBUILD_LAST_EXIT": str(self._last_exit),
        }

    def _collect_reports(self) -> list[str]:
        """Hand the reports on, also those of a build whose tests failed; what is wrong with them."""
        try:
            return collect_reports(
                self._spec.reports,
                self._room(),
                self.journal,
                tell=self._reporter.report,
                interrupt=self._interrupt,
                check=self._check,
                pause=self._check_interrupt,
            )
        except Refused as error:
            self._sandbox_is_gone = True  # in the middle of a stream that nobody reads any more
            raise _PhaseFailed(CLIENT_ERROR, str(error)) from error

    def _upload_artifacts(self) -> None:
        bench, keeper = self._bench(), self._reporter.keeper
        try:
            upload(bench, self._spec, self._plan.outputs, keeper, project=self._plan.project)
            if self._cache is not None and self._status is BuildStatus.SUCCEEDED:
                caching.save(bench, self._cache, keeper)
        except UploadFailed as error:
            raise _PhaseFailed(CLIENT_ERROR, str(error)) from error
        except Refused as error:
            self._sandbox_is_gone = True  # in the middle of a stream that nobody reads any more
            raise _PhaseFailed(CLIENT_ERROR, str(error)) from error

    def _restore_cache(self) -> None:
        if self._spec.cache is None:
            return
        if not self._plan.outputs.caches:
            self.journal.say(f"The project has {self._plan.outputs.without_caches}: the buildspec's cache is not used")
            return
        bench = self._bench()
        self._cache = caching.prepare(bench, self._spec.cache)
        if self._cache is not None:
            caching.restore(bench, self._cache, self._reporter.keeper)

    def _bench(self) -> Bench:
        return Bench(
            self._room(),
            self.journal.say,
            self.journal.log,
            self._interrupt,
            self._check,
            self._spec.shell,
            self._told(),
            self._spec.carries_state,
            self.journal.mask,
        )

    def _finalize(self) -> None:
        if self._spec.exported_variables and not self._sandbox_is_gone:
            try:
                values = self._room().environment()
            except ExecutorError as error:
                # What it was built for is done; to run it all again would be worse than to lack a variable.
                raise _PhaseFailed(CLIENT_ERROR, f"the exported variables cannot be read: {error}") from error
            found: dict[str, str] = {}
            for name in self._spec.exported_variables:
                if name in self._secret_names:
                    self.journal.say(f"Warning: {name} comes from a secret or parameter and is not exported")
                elif name in values:
                    found[name] = self.journal.mask(values[name])
            self._exported = bounded(found, self.journal.say)
        self._destroy()

    # --- the sandbox

    def _room(self) -> Sandbox:
        if self._sandbox is None:
            raise AssertionError("there is a sandbox from PROVISIONING to FINALIZING")
        return self._sandbox

    def _destroy(self) -> None:
        if self._sandbox is not None:
            self._sandbox.destroy()

    def _check_interrupt(self) -> None:
        reason = self._interrupt()
        if reason is not None:
            raise _Interrupted(reason)

    def _check(self, outcome: Outcome) -> None:
        """Turn an interruption into its exception, and the end of the sandbox into a failure of the phase."""
        if outcome.reason is not None:
            raise _Interrupted(outcome.reason)
        if outcome.ended is Ended.VANISHED:
            self._sandbox_is_gone = True
            raise _PhaseFailed(COMMAND_EXECUTION_ERROR, f"the sandbox ended while the build ran: {outcome.detail}")


def sandbox_reserved(sandbox: Sandbox) -> dict[str, str]:
    """The sandbox's own variables that nobody may override: where the source and the assets are."""
    return {name: value for name, value in sandbox.variables.items() if name.startswith(("CODEBUILD_", "ENTREPOT_"))}
