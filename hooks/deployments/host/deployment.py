"""A deployment on this machine, driven lifecycle event by lifecycle event: by a command, or by an agent that polls.

What has begun and what has ended is journaled before it is done and after. An event that has ended is not done again:
asked for once more it answers with its result. One that was interrupted is repeated where that comes to the same
(DownloadBundle, Install, and scripts none of which had begun); a script that had begun is never run a second time.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from hooks.deployments.appspec import parse_appspec
from hooks.deployments.appspec_model import DEFAULT_FILENAME, EVENT_SECONDS, AppSpec, FileExistsBehavior, HookScript
from hooks.deployments.host import bundle
from hooks.deployments.host.atomic import install_release
from hooks.deployments.host.install import InstallError, install, sync_file_system
from hooks.deployments.host.script_log import ScriptLog
from hooks.deployments.host.scripts import ScriptSettings, run_script
from hooks.deployments.host.state import (
    ARCHIVE,
    GroupState,
    Lines,
    StateError,
    make_own,
    remove_tree,
    replace_file,
    sync_directory,
)
from hooks.deployments.lifecycle import DOWNLOAD_BUNDLE, ENGINE_EVENTS, INSTALL, Course, Release, release_of
from hooks.deployments.outcomes import ErrorCode, EventFailed, EventResult, EventStatus
from hooks.document import MAX_DOCUMENT_BYTES
from registry.errors import InvalidDocument

Clock = Callable[[], datetime]
Fetch = Callable[[Path], Path]
"""Given a place for a file, the bundle's file or directory (there, or where it lies already). Raises BundleError, OSError."""
Judge = Callable[[AppSpec], str]
"""Why this machine does not carry out a document, "" if it does."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is to be deployed, apart from the bundle itself. ``link``: switch this link (``atomic``), "" for plain copies.

    ``variables`` go to the scripts beside CodeDeploy's own (BUNDLE_BUCKET, BUNDLE_COMMIT, …).
    """

    deployment_id: str
    group_id: str
    group_name: str
    application_name: str
    events: tuple[str, ...]
    course: Course = Course.IN_PLACE
    appspec_name: str = DEFAULT_FILENAME
    file_exists_behavior: FileExistsBehavior = FileExistsBehavior.DISALLOW
    link: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For the file in the deployment's directory."""
        return {
            "deploymentId": self.deployment_id,
            "deploymentGroupId": self.group_id,
            "deploymentGroupName": self.group_name,
            "applicationName": self.application_name,
            "events": list(self.events),
            "course": self.course.value,
            "appSpecFilename": self.appspec_name,
            "fileExistsBehavior": self.file_exists_behavior.value,
            "link": self.link,
            "variables": dict(self.variables),
        }

    @staticmethod
    def of_json(record: Mapping[str, Any]) -> Deployment:
        """What ``as_json`` has made."""
        return Deployment(
            record["deploymentId"],
            record["deploymentGroupId"],
            record["deploymentGroupName"],
            record["applicationName"],
            tuple(record["events"]),
            Course(record["course"]),
            record["appSpecFilename"],
            FileExistsBehavior(record["fileExistsBehavior"]),
            record["link"],
            dict(record["variables"]),
        )


def load_deployment(state: GroupState, deployment_id: str) -> Deployment:
    """A deployment that has begun on this machine. Raises StateError."""
    path = state.deployment(deployment_id) / "deployment.json"
    try:
        return Deployment.of_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError) as error:
        raise StateError(f"{deployment_id} cannot be gone on with: {error}") from error


class HostDeployment:
    """One deployment on this machine. Its group has to be locked (``GroupState.locked``) while it is used."""

    def __init__(
        self,
        deployment: Deployment,
        state: GroupState,
        fetch: Fetch,
        scripts: ScriptSettings,
        clock: Clock,
        show: Callable[[str], object],
        judge: Judge = lambda _: "",
    ) -> None:
        """``show`` gets every line of the log as it comes; ``judge`` is asked about each document. Touches nothing yet."""
        self.deployment = deployment
        self._state = state
        self._directory = state.deployment(deployment.deployment_id)
        self._journal = Lines(self._directory / "journal")
        self._fetch = fetch
        self._scripts = scripts
        self._clock = clock
        self._show = show
        self._judge = judge

    def begin(self) -> None:
        """Make the deployment known on this machine, if it is not yet. Raises StateError, OSError."""
        make_own(self._directory, 0o711)
        if not (self._directory / "deployment.json").exists():
            replace_file(self._directory / "deployment.json", json.dumps(self.deployment.as_json()))
        mark = self._state.ongoing / self.deployment.deployment_id
        if not mark.exists():
            replace_file(mark, f"{self.deployment.group_id}\n")

    def end(self) -> None:
        """Forget that the deployment goes on."""
        (self._state.ongoing / self.deployment.deployment_id).unlink(missing_ok=True)

    def result(self, event: str, attempt: str = "") -> EventResult | None:
        """How an event has ended; None if it has not."""
        ended = [line for line in self._lines(event, attempt) if "result" in line]
        return EventResult.of_json(ended[-1]["result"]) if ended else None

    def _lines(self, event: str, attempt: str) -> list[dict[str, Any]]:
        """What was journaled of an attempt at an event."""
        lines = self._journal.read()
        return [line for line in lines if line.get("event") == event and line.get("attempt", "") == attempt]

    def _note(self, event: str, attempt: str, **more: Any) -> None:
        self._journal.append([{"event": event, **({"attempt": attempt} if attempt else {}), **more}])

    def is_noop(self, event: str) -> bool:
        """Whether nothing is to be done in an event, so that it need not be asked for. Raises EventFailed."""
        if event in {DOWNLOAD_BUNDLE, INSTALL}:
            return False
        return not self._scripts_of(event)[0]

    def origin(self, event: str) -> str:
        """The deployment whose scripts run in an event; "" for none."""
        if event in ENGINE_EVENTS:
            return self.deployment.deployment_id
        directory = self._release(event)
        return directory.name if directory is not None else ""

    @property
    def is_stopped(self) -> bool:
        """Whether somebody wants the deployment to end."""
        return self._scripts.is_stopped()

    def carry_out(self, event: str, attempt: str = "") -> EventResult:
        """Do what belongs to an event, once; how it has ended. Raises StateError and OSError where it could not be tried.

        Somebody who wants an event done once more says so by another ``attempt``.
        """
        known = self.result(event, attempt)
        if known is not None:
            return known
        begun = self._lines(event, attempt)
        started_at = time.monotonic()
        log = ScriptLog(self._directory / "logs" / "scripts.log", self._clock, self._show)
        result = EventResult(event, EventStatus.SUCCEEDED)
        try:
            self._refuse_to_repeat(begun)
            self._note(event, attempt, state="begun")
            self._do(event, attempt, log)
        except EventFailed as error:
            message = str(error).encode(errors="replace").decode()  # names of files are bytes, reports are text
            origin = self.origin(event)
            if origin not in {"", self.deployment.deployment_id} and error.script:
                message += f" (the script is that of the deployment {origin})"
            log.say(message)
            result = replace(result, status=EventStatus.FAILED, code=error.code, message=message, script=error.script)
        finally:
            log.close()
        result = replace(result, log=log.tail, seconds=time.monotonic() - started_at)
        self._note(event, attempt, result=result.as_json())
        return result

    def skip(self, event: str, message: str) -> EventResult:
        """Note that an event is left out."""
        known = self.result(event)
        if known is not None:
            return known
        result = EventResult(event, EventStatus.SKIPPED, message=message)
        self._note(event, "", result=result.as_json())
        return result

    @staticmethod
    def _refuse_to_repeat(begun: list[dict[str, Any]]) -> None:
        started = [line["script"] for line in begun if "script" in line]
        if started:
            message = f"the agent was interrupted while {started[-1]} ran; whether it has done its work is not known"
            raise EventFailed(ErrorCode.FAILED_AFTER_RESTART, message, started[-1])

    def _do(self, event: str, attempt: str, log: ScriptLog) -> None:
        if event == DOWNLOAD_BUNDLE:
            self._download(log)
        elif event == INSTALL:
            self._install(log)
        elif event not in ENGINE_EVENTS:
            self._run_scripts(event, attempt, log)

    # --- the engine's events

    def _download(self, log: ScriptLog) -> None:
        archive = self._directory / ARCHIVE
        fresh = self._directory / f"{ARCHIVE}.new"
        try:
            for gone in self._state.remove_old(self.deployment.deployment_id):
                log.say(f"the archive of {gone} is removed")
            for path in (fresh, fresh.with_name(f"{fresh.name}.lifted"), archive):
                if path.exists():
                    remove_tree(path)
            source = self._fetch(self._directory / "bundle")
            bundle.take(source, fresh, self.deployment.appspec_name)
            spec = self._read_appspec(fresh)
            for warning in spec.warnings:
                log.say(f"{self.deployment.appspec_name}: {warning}")
            # Before it is noted that it is here: after a crash what is missing of it would be installed as it is.
            sync_file_system(fresh)
            bundle.rights_file(fresh).rename(bundle.rights_file(archive))
            fresh.rename(archive)
            sync_directory(self._directory)
        except (bundle.BundleError, InstallError, OSError, StateError) as error:
            raise EventFailed(ErrorCode.UNKNOWN_ERROR, f"the bundle cannot be used: {error}") from error
        self._state.point("most_recent", self.deployment.deployment_id)

    def _install(self, log: ScriptLog) -> None:
        archive = self._directory / ARCHIVE
        if not archive.is_dir():
            raise EventFailed(ErrorCode.UNKNOWN_ERROR, "the bundle is not here: DownloadBundle comes before Install")
        spec = self._read_appspec(archive)
        wanted = self.deployment
        try:
            found = bundle.listing(archive)
            if wanted.link:
                behavior = wanted.file_exists_behavior
                arguments = (self._state, wanted.link, wanted.deployment_id, log.say)
                plan = install_release(archive, found, spec, behavior, *arguments)
            else:
                plan = install(archive, found, spec, wanted.file_exists_behavior, self._state, log.say)
        except (bundle.BundleError, InstallError, StateError, OSError) as error:
            raise EventFailed(ErrorCode.UNKNOWN_ERROR, str(error)) from error
        log.say(f"{len(plan.created)} made, {len(plan.overwritten)} overwritten, {len(plan.retained)} retained")
        self._state.point("last_successful", wanted.deployment_id)

    def _read_appspec(self, archive: Path) -> AppSpec:
        path = bundle.find_appspec(archive, self.deployment.appspec_name)
        if path is None:
            message = f"the bundle has no {self.deployment.appspec_name} at its top"
            raise EventFailed(ErrorCode.UNKNOWN_ERROR, message)
        try:
            with path.open("rb") as file:
                text = file.read(MAX_DOCUMENT_BYTES + 1).decode()
            spec = parse_appspec(text, path.name, events=self.deployment.events)
        except (UnicodeDecodeError, InvalidDocument, OSError) as error:
            raise EventFailed(ErrorCode.UNKNOWN_ERROR, str(error)) from error
        reason = self._judge(spec)
        if reason:
            raise EventFailed(ErrorCode.UNKNOWN_ERROR, f"{path.name} is not carried out on this machine: {reason}")
        return spec

    # --- scripts

    def _release(self, event: str) -> Path | None:
        """The directory of the deployment whose scripts run; None: there is none to run any."""
        if (self._directory / ARCHIVE).is_dir():
            return self._directory
        release = release_of(event, self.deployment.course)
        if release is Release.CURRENT:
            return self._directory
        name = "most_recent" if release is Release.MOST_RECENT else "last_successful"
        deployment_id = self._state.pointer(name)
        return self._state.deployment(deployment_id) if deployment_id else None

    def _scripts_of(self, event: str) -> tuple[tuple[HookScript, ...], Path]:
        directory = self._release(event)
        if directory is None:
            return (), Path()
        archive = directory / ARCHIVE
        if not archive.is_dir():
            raise EventFailed(ErrorCode.UNKNOWN_ERROR, f"the bundle is not here: DownloadBundle comes before {event}")
        return self._read_appspec(archive).hooks.get(event, ()), archive

    def _run_scripts(self, event: str, attempt: str, log: ScriptLog) -> None:
        scripts, archive = self._scripts_of(event)
        if not scripts:
            return
        log.say(f"LifecycleEvent - {event}")
        deadline = time.monotonic() + EVENT_SECONDS
        wanted = self.deployment
        variables = {
            **wanted.variables,
            "APPLICATION_NAME": wanted.application_name,
            "DEPLOYMENT_ID": wanted.deployment_id,
            "DEPLOYMENT_GROUP_NAME": wanted.group_name,
            "DEPLOYMENT_GROUP_ID": wanted.group_id,
            "LIFECYCLE_EVENT": event,
        }
        settings = replace(self._scripts, environment=self._scripts.environment or dict(os.environ))
        for script in scripts:
            self._note(event, attempt, script=script.location)
            try:
                run_script(script, archive, variables, settings, log, deadline - time.monotonic())
            except OSError as error:
                message = f"{script.location} cannot be run: {error}"
                raise EventFailed(ErrorCode.UNKNOWN_ERROR, message, script.location) from error
