"""``entrepot worker run``: jobs of a custom action type, each carried out by a command on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import click

from hooks.commands.start_options import zip_folder
from registry.commands.client import Client, Failed, Refused, Unreachable, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, say

_ENDING = (signal.SIGTERM, signal.SIGINT)
LOOK_SECONDS = 5.0
"""So often it is asked whether a job is still wanted."""
KILL_SECONDS = 10.0
MAX_UNPACKED_BYTES = 16 * 1024**3
_PIECE_BYTES = 256 * 1024
_MOST_RESULT_BYTES = 1024 * 1024
_NOT_A_LETTER = re.compile(r"[^A-Za-z0-9_]")
_OWN = frozenset({"ENTREPOT_TOKEN"})
"""What a command does not get of the worker's environment."""


@click.group()
def worker() -> None:
    """Carry out actions of pipelines: run."""


def _type(text: str) -> dict[str, str]:
    category, _, rest = text.partition("/")
    provider, _, version = rest.partition("/")
    if not category or not provider:
        raise click.UsageError(f"--action-type {text!r}: write CATEGORY/PROVIDER or CATEGORY/PROVIDER/VERSION")
    return {"category": category, "owner": "Custom", "provider": provider, "version": version or "1"}


def _query(text: str | None) -> dict[str, str]:
    if text is None:
        return {}
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"--query {text!r}: write NAME=VALUE")
    return {name: value}


@example("entrepot worker run --action-type Build/Signer/1 -- ./sign.sh")
@worker.command(context_settings={"ignore_unknown_options": True})
@click.option("--action-type", required=True, metavar="CATEGORY/PROVIDER/VERSION", help="Whose jobs to carry out.")
@click.option("--query", metavar="NAME=VALUE", help="Only jobs with this value of the queryable property.")
@click.option("--once", is_flag=True, help="End after one job; exit 1 if it failed.")
@click.option("--poll-seconds", default=5.0, show_default=True, type=click.FloatRange(0.1, 3600), help="Between looks.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@json_option
@with_client
def run(
    client: Client,
    command: tuple[str, ...],
    *,
    action_type: str,
    query: str | None,
    once: bool,
    poll_seconds: float,
    as_json: bool,
) -> None:
    """Wait for jobs, and run COMMAND for each; its exit code 0 is success.

    It finds the input artifacts below $ENTREPOT_INPUTS, and leaves output artifacts below $ENTREPOT_OUTPUTS, each in a folder
    of its name. Settings are in ENTREPOT_CONFIG_NAME, the whole job in the file $ENTREPOT_JOB. What it writes into the file
    $ENTREPOT_RESULT (JSON: outputVariables, executionDetails, continuationToken) goes along with the result.
    """
    asked = {"actionTypeId": _type(action_type), "maxBatchSize": 1, "queryParam": _query(query)}
    signal.signal(signal.SIGTERM, _interrupt)
    while True:
        try:
            jobs = client.send("POST", "jobs", "poll", body=asked)["jobs"]
        except Unreachable as error:
            say(f"{error.message}; trying again")
            jobs = []
        for job in jobs:
            succeeded = _take(client, job, command)
            if succeeded is None:
                continue
            if as_json:
                print_json({"job": job["id"], "succeeded": succeeded})
            if once:
                if not succeeded:
                    raise Failed(f"job {job['id']} failed")
                return
        if not jobs:
            time.sleep(poll_seconds)


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _take(client: Client, job: dict[str, Any], command: tuple[str, ...]) -> bool | None:
    """Carry one job out; whether it went well, None where somebody else has it."""
    about = job["data"]["pipelineContext"]
    try:
        client.send("POST", "jobs", job["id"], "acknowledge", body={"nonce": job["nonce"]})
    except Refused as error:
        say(f"job {job['id']} is somebody else's: {error.message}")
        return None
    say(f"job {job['id']}: {about['pipelineName']} / {about['stage']['name']} / {about['action']['name']}")
    try:
        result = _carry_out(client, job, command)
    except KeyboardInterrupt:
        with contextlib.suppress(Failed):
            _tell(client, job, _failure("JobFailed", "the worker was stopped"))
        raise
    except Failed as error:
        result = _failure("SystemUnavailable", error.message)
    except (OSError, zipfile.BadZipFile) as error:
        result = _failure("SystemUnavailable", f"the worker could not run it: {error}")
    return result is not None and _tell(client, job, result)


def _failure(kind: str, message: str) -> dict[str, Any]:
    return {"failureDetails": {"type": kind, "message": message[:5000]}}


def _tell(client: Client, job: Mapping[str, Any], result: dict[str, Any]) -> bool:
    word = "failure" if "failureDetails" in result else "success"
    while True:
        try:
            status = client.send("POST", "jobs", job["id"], word, body=result)["status"]
        except Unreachable as error:
            say(f"{error.message}; trying again")
            time.sleep(1)
        except Refused as error:
            if word == "success" and error.status == 400:
                result, word = _failure("JobFailed", f"its result is refused: {error.message}"), "failure"
                continue
            if word == "success" and "artifact" in error.message:
                result, word = _failure("JobFailed", error.message), "failure"
                continue
            say(f"job {job['id']}: {error.message}")
            return False
        else:
            say(f"job {job['id']}: {status}" + (f", {_told(result)}" if word == "failure" else ""))
            return word == "success"


def _told(result: Mapping[str, Any]) -> str:
    return str(result["failureDetails"]["message"])


def _carry_out(client: Client, job: dict[str, Any], command: tuple[str, ...]) -> dict[str, Any] | None:
    """What is told of the job; None for one that nobody waits for any more."""
    files = Client(client.url, job["data"]["artifactCredentials"]["sessionToken"])
    with tempfile.TemporaryDirectory(prefix="entrepot-job-") as made:
        folder = Path(made)
        for name in ("inputs", "outputs"):
            (folder / name).mkdir()
        for artifact in job["data"]["inputArtifacts"]:
            _fetch(files, job, artifact, folder / "inputs" / artifact["name"])
        for artifact in job["data"]["outputArtifacts"]:
            (folder / "outputs" / artifact["name"]).mkdir()
        shown = {key: value for key, value in job["data"].items() if key != "artifactCredentials"}
        (folder / "job.json").write_text(json.dumps({"id": job["id"], "data": shown}), encoding="utf-8")
        code = _run(client, job, command, folder)
        if code is None:
            return None
        if code != 0:
            return _failure("JobFailed", f"the command ended with {code}")
        result = _result(folder / "result.json")
        if "continuationToken" not in result:
            _send(files, job, folder / "outputs")
        return result


def _fetch(files: Client, job: Mapping[str, Any], artifact: Mapping[str, Any], into: Path) -> None:
    into.mkdir()
    for file in artifact["location"]["files"]:
        path = _place(into, file["name"])
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as body:
            digest = files.download(body, "job-artifacts", job["id"], "inputs", artifact["name"], file["name"])
        if digest != file["sha256"]:
            raise Failed(f"{file['name']} arrived with another SHA-256 than it has to have")
        # What an action before has left is one zip; the files of the version stay as they are.
        if artifact["revision"] == file["sha256"] and len(artifact["location"]["files"]) == 1:
            packed = into.with_name(f"{artifact['name']}.zip")
            path.rename(packed)
            _unpack(packed, into)
            packed.unlink()


def _unpack(packed: Path, into: Path) -> None:
    """The regular files of a zip; a link in it is left out, because it may lead anywhere."""
    left = MAX_UNPACKED_BYTES
    with zipfile.ZipFile(packed) as archive:
        for entry in archive.infolist():
            mode = entry.external_attr >> 16
            if entry.is_dir() or stat.S_ISLNK(mode):
                continue
            path = _place(into, entry.filename)
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, path.open("xb") as body:
                while data := source.read(_PIECE_BYTES):
                    left -= len(data)
                    if left < 0:
                        raise Failed(f"the artifact unpacks to more than {MAX_UNPACKED_BYTES} bytes")
                    body.write(data)
            path.chmod(0o755 if mode & 0o100 else 0o644)


def _place(folder: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or any(part in {"..", "."} or "\\" in part for part in parts):
        raise Failed(f"the file's name {name!r} is no place in a folder")
    return folder.joinpath(*parts)


def _run(client: Client, job: Mapping[str, Any], command: tuple[str, ...], folder: Path) -> int | None:
    """The command's exit code; None where the job has ended meanwhile, and the command with it."""
    # An end that is asked for while the command is started comes a moment later: else nobody would know what to stop.
    asked: list[int] = []
    before = {number: signal.signal(number, lambda which, _: asked.append(which)) for number in _ENDING}
    try:
        # Fixed words of the person who started the worker; nothing of a job is in them.
        process = subprocess.Popen(list(command), env=_environment(client, job, folder), start_new_session=True)
    except OSError as error:
        raise click.UsageError(f"{command[0]} cannot be run: {error.strerror}") from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    try:
        if asked:
            raise KeyboardInterrupt
        while True:
            try:
                return process.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                if not _is_wanted(client, job):
                    say(f"job {job['id']} has ended without the command, which is stopped")
                    return None
    finally:
        _end(process)


def _is_wanted(client: Client, job: Mapping[str, Any]) -> bool:
    try:
        return bool(client.get("jobs", job["id"])["status"] == "InProgress")
    except Refused:
        return False
    except Failed:
        return True  # nobody can say now


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop a command with all that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(KILL_SECONDS)
            return


def _environment(client: Client, job: Mapping[str, Any], folder: Path) -> dict[str, str]:
    data = job["data"]
    about, package = data["pipelineContext"], data["package"]
    found = {name: value for name, value in os.environ.items() if name not in _OWN}
    found |= {
        "ENTREPOT_URL": client.url,
        "ENTREPOT_JOB": str(folder / "job.json"),
        "ENTREPOT_JOB_ID": job["id"],
        "ENTREPOT_INPUTS": str(folder / "inputs"),
        "ENTREPOT_OUTPUTS": str(folder / "outputs"),
        "ENTREPOT_RESULT": str(folder / "result.json"),
        "ENTREPOT_CONTINUATION_TOKEN": data["continuationToken"] or "",
        "ENTREPOT_PIPELINE": about["pipelineName"],
        "ENTREPOT_STAGE": about["stage"]["name"],
        "ENTREPOT_ACTION": about["action"]["name"],
        "ENTREPOT_EXECUTION_ID": about["pipelineExecutionId"],
        "ENTREPOT_PACKAGE": f"{package['namespace']}/{package['name']}" if package["namespace"] else package["name"],
        "ENTREPOT_VERSION": package["version"],
        "ENTREPOT_REPOSITORY": f"{package['domain']}/{package['repository']}",
    }
    for name, value in data["actionConfiguration"]["configuration"].items():
        found[f"ENTREPOT_CONFIG_{_NOT_A_LETTER.sub('_', name)}"] = value
    return {name: value for name, value in found.items() if "\0" not in value}


def _result(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_RESULT_BYTES + 1)
        found = json.loads(text) if len(text) <= _MOST_RESULT_BYTES else None
    except (OSError, ValueError) as error:
        raise Failed(f"result.json is no JSON: {error}") from error
    known = {"outputVariables", "executionDetails", "continuationToken", "currentRevision"}
    if not isinstance(found, dict) or set(found) - known:
        raise Failed(f"result.json is an object with {', '.join(sorted(known))}")
    return found


def _send(files: Client, job: Mapping[str, Any], outputs: Path) -> None:
    for artifact in job["data"]["outputArtifacts"]:
        with tempfile.TemporaryFile() as body:
            zip_folder(outputs / artifact["name"], body)
            body.seek(0)
            place = ("job-artifacts", job["id"], "outputs", artifact["name"])
            files.send_file("PUT", *place, file=body, media_type="application/zip")
