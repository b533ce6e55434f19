"""One bubblewrap sandbox, seen from the worker."""

from __future__ import annotations

import logging
import os
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hooks.builds import bubblewrap, launch, shim
from hooks.builds.cgroups import Group
from hooks.builds.channel import Channel, Vanished, parse_answer
from hooks.builds.executor import (
    Breakpoints,
    Ended,
    ExecutorError,
    Interrupt,
    Item,
    Network,
    Outcome,
    Refused,
    SandboxRequest,
    Selection,
    SourceBundle,
    SourceFile,
    StopReason,
)
from hooks.builds.launch import Limits
from hooks.builds.relay import Relay, open_relays
from hooks.builds.workspace import Workspace

LOG = logging.getLogger(__name__)

START_SECONDS = 30.0
_POLL_SECONDS = 0.1
# TERM, one second, KILL inside the sandbox; after that the sandbox itself is ended.
_END_SECONDS = 3.0
_COPY_BYTES = 1024 * 1024
_ERROR_BYTES = 2000


class ProcessSandbox:
    """Implements ``hooks.builds.executor.Sandbox``; ``start`` comes first, once."""

    source_dir = bubblewrap.SOURCE_DIR
    has_users = False  # bubblewrap maps one user into its namespace, and nothing in it may become another

    def __init__(self, workspace: Workspace, limits: Limits) -> None:
        """Own ``workspace`` from now on; ``destroy`` removes it."""
        self._workspace = workspace
        self._limits = limits
        self._group: Group | None = None
        self._relays: list[Relay] = []
        self._channel: Channel | None = None
        self._shim: subprocess.Popen[bytes] | None = None
        self._errors = os.memfd_create("errors", os.MFD_CLOEXEC)
        self._destroyed = False
        self._is_fed = False  # in the middle of a body: what is sent now would be taken for a piece of it, or block
        self._secondary: dict[str, str] = {}
        self._standing_at: Breakpoints | None = None

    @property
    def variables(self) -> Mapping[str, str]:
        """The allow-list of variables: nothing of the worker's own environment is among them."""
        return {
            "HOME": bubblewrap.HOME_DIR,
            "USER": "build",
            "LOGNAME": "build",
            "LANG": "C.UTF-8",
            "PATH": bubblewrap.PATH,
            "CODEBUILD_SRC_DIR": bubblewrap.SOURCE_DIR,
            "ENTREPOT_ASSETS_DIR": bubblewrap.ASSETS_DIR,
            **self._secondary,
        }

    def start(
        self,
        request: SandboxRequest,
        *,
        group: Group | None,
        program: bytes | None,
        registry_address: tuple[str, int] | Callable[[], socket.socket] | None,
        readonly_paths: Sequence[str],
    ) -> None:
        """Start shim, bwrap and runner. ``program`` is the system call filter. Raises ExecutorError, OSError."""
        self._group = group
        layout = launch.lay_out(
            self._workspace.path, self._limits, readonly_paths, with_network=request.network is Network.REGISTRY
        )
        if layout.network_dir is not None:
            if registry_address is None:
                raise ExecutorError("no registry address is configured, so a build cannot have network 'registry'")
            owner = None if self._workspace.user is None else (self._workspace.user, self._workspace.user)
            self._relays = open_relays(layout.network_dir, registry_address, request.publishing, owner)
        self._shim, self._channel = launch.launch(
            layout, self._workspace, self._limits, group=group, program=program, errors=self._errors
        )
        self._ask(
            {
                "environment": dict(self.variables),
                "home_files": launch.home_files(request),
                "processes": self._limits.processes,
                "ports": launch.ports_of(request),
            },
            deadline=time.monotonic() + START_SECONDS,
        )

    def fetch(self, source: SourceBundle, sink: Callable[[bytes], None], interrupt: Interrupt) -> Outcome:
        """Copy the files to where the build may read them; unpack the archives among them inside the sandbox."""
        started = time.monotonic()
        left_bytes = self._limits.source_bytes
        for file in source.files:
            left_bytes = self._copy(file, left_bytes, interrupt)
            reason = interrupt()
            if reason is not None:
                return Outcome(Ended.INTERRUPTED, None, time.monotonic() - started, reason)
        outcome = Outcome(Ended.EXITED, 0, time.monotonic() - started)
        archives = {"": source.unpack, **source.secondary} if source.unpack is not None else source.secondary
        for identifier, name in archives.items():
            request = {
                "op": "unpack",
                "file": _plain_name(name),
                "into": identifier,
                "as_is": identifier in source.as_is,
            }
            outcome = self._perform(request, sink, _refuse_data, interrupt)[0]
            if not outcome.succeeded:
                return outcome
            if identifier:
                self._secondary[f"CODEBUILD_SRC_DIR_{identifier}"] = f"{bubblewrap.SOURCE_DIR}-{identifier}"
        return outcome

    def define(self, variables: Mapping[str, str]) -> None:
        """Set the environment that the first item starts with."""
        self._ask({"op": "define", "environment": dict(variables)})

    def run(self, item: Item, sink: Callable[[bytes], None], interrupt: Interrupt) -> Outcome:
        """Run one item in a new shell process."""
        request = {
            "op": "run",
            "script": item.script,
            "shell": item.shell,
            "environment": dict(item.environment),
            "carries_state": item.carries_state,
            "halts": item.breakpoints is not None,
        }
        with self._halting(item.breakpoints) as take:
            return self._perform(request, sink, take, interrupt)[0]

    @contextmanager
    def _halting(self, breakpoints: Breakpoints | None) -> Iterator[Callable[[bytes], None]]:
        """What takes the news of breakpoints; while an item stands at one, ``_converse`` asks whether it goes on."""

        def take(data: bytes) -> None:
            if breakpoints is None or data not in {b"stands", b"moved"}:
                _refuse_data(data)
            elif data == b"stands":
                self._standing_at = breakpoints
                breakpoints.stands()
            elif self._standing_at is not None:
                self._standing_at = None
                breakpoints.moved()

        try:
            yield take
        finally:
            self._standing_at = None

    def read_file(self, path: str, limit_bytes: int) -> bytes | None:
        """Read inside the sandbox, so that no link in the user's tree can lead out of it."""
        content = bytearray()

        def take(data: bytes) -> None:
            content.extend(data)
            if len(content) > limit_bytes + 1:
                raise Vanished("the sandbox sent more than was asked for")

        answer = self._ask({"op": "read", "path": path, "limit": limit_bytes + 1}, on_data=take)
        return bytes(content) if answer.get("found") else None

    def environment(self) -> Mapping[str, str]:
        """The variables as the last item left them."""
        found = self._ask({"op": "environment"}).get("environment")
        if not isinstance(found, dict):
            raise ExecutorError("the sandbox's answer cannot be read")
        # Variables may hold any bytes; what leaves the sandbox is text.
        return {str(name): str(value).encode(errors="replace").decode() for name, value in found.items()}

    def collect(
        self, selection: Selection, write: Callable[[bytes], object], interrupt: Interrupt
    ) -> tuple[Outcome, int]:
        """Take a zip of the selected files over the pipe; it stays closed on this side."""
        request = {
            "op": "collect",
            "files": list(selection.files),
            "base_directory": selection.base_directory,
            "discard_paths": selection.discard_paths,
            "exclude_paths": list(selection.exclude_paths),
            "enable_symlinks": selection.enable_symlinks,
        }
        return self._take_archive(request, "the artifact", self._limits.artifact_bytes, write, interrupt)

    def save(self, paths: Sequence[str], write: Callable[[bytes], object], interrupt: Interrupt) -> tuple[Outcome, int]:
        """Take an archive of the cached paths over the pipe."""
        request = {"op": "save", "paths": list(paths)}
        return self._take_archive(request, "the cache", self._limits.cache_bytes, write, interrupt)

    def restore(self, archive: Iterable[bytes], sink: Callable[[bytes], None], interrupt: Interrupt) -> Outcome:
        """Send an archive over the pipe; it is opened inside."""
        started = time.monotonic()
        reason: StopReason | None = None

        def give_up() -> bool:
            nonlocal reason
            reason = interrupt()
            return reason is not None

        try:
            channel = self._open_channel()
            channel.send({"op": "restore"})
            self._is_fed = True
            for piece in filter(None, archive):
                if not channel.feed(piece, give_up):
                    return Outcome(Ended.INTERRUPTED, None, time.monotonic() - started, reason)
            if not channel.feed(b"", give_up):
                return Outcome(Ended.INTERRUPTED, None, time.monotonic() - started, reason)
            self._is_fed = False
        except Vanished as error:
            detail = f"{error}; {self._last_words()}"
            return Outcome(Ended.VANISHED, None, time.monotonic() - started, detail=detail)
        return self._await(started, sink, _refuse_data, interrupt)[0]

    def _take_archive(
        self,
        request: Mapping[str, Any],
        what: str,
        limit_bytes: int,
        write: Callable[[bytes], object],
        interrupt: Interrupt,
    ) -> tuple[Outcome, int]:
        taken_bytes = 0

        def take(data: bytes) -> None:
            nonlocal taken_bytes
            taken_bytes += len(data)
            if taken_bytes > limit_bytes:
                raise Refused(f"{what} is larger than {limit_bytes} bytes")
            write(data)

        outcome, answer = self._perform(request, _refuse_data, take, interrupt)
        files = answer.get("files")
        return outcome, files if isinstance(files, int) else 0

    def destroy(self) -> None:
        """Close the life line, wait for the shim (which waits for everything below it), remove what is left."""
        if self._destroyed:
            return
        self._destroyed = True
        if self._channel is not None:
            try:
                if not self._is_fed:
                    self._channel.send({"op": "quit"})
            except Vanished:
                LOG.debug("the sandbox had ended before")
            self._channel.close()
        self._end_processes()
        for relay in self._relays:
            relay.close()
        if self._group is not None:
            self._group.remove()
        self._workspace.remove()
        os.close(self._errors)

    # --- talking

    def _ask(
        self,
        request: Mapping[str, Any],
        *,
        on_data: Callable[[bytes], None] | None = None,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """Send a short request and wait for its answer. Raises ExecutorError."""
        until = deadline or time.monotonic() + START_SECONDS

        def out_of_time() -> StopReason | None:
            return StopReason.TIMED_OUT if time.monotonic() > until else None

        try:
            self._open_channel().send(request)
            answer, reason = self._converse(_refuse_data, on_data or _refuse_data, out_of_time)
        except Vanished as error:
            raise ExecutorError(f"{error}; {self._last_words()}") from error
        if reason is not None:
            raise ExecutorError(f"the sandbox did not answer in time; {self._last_words()}")
        return answer

    def _perform(
        self,
        request: Mapping[str, Any],
        on_output: Callable[[bytes], None],
        on_data: Callable[[bytes], None],
        interrupt: Interrupt,
    ) -> tuple[Outcome, dict[str, Any]]:
        """Send a request that may take long; how it went, as a value."""
        started = time.monotonic()
        try:
            self._open_channel().send(request)
        except Vanished as error:
            return Outcome(Ended.VANISHED, None, 0.0, detail=f"{error}; {self._last_words()}"), {}
        return self._await(started, on_output, on_data, interrupt)

    def _await(
        self,
        started: float,
        on_output: Callable[[bytes], None],
        on_data: Callable[[bytes], None],
        interrupt: Interrupt,
    ) -> tuple[Outcome, dict[str, Any]]:
        """Wait for the answer to a request that was sent."""
        kills = self._group.oom_kills() if self._group else 0
        try:
            answer, reason = self._converse(on_output, on_data, interrupt)
        except Vanished as error:
            detail = f"{error}; {self._last_words()}" + self._memory_words(kills)
            return Outcome(Ended.VANISHED, None, time.monotonic() - started, detail=detail), {}
        seconds = time.monotonic() - started
        if reason is not None:
            return Outcome(Ended.INTERRUPTED, None, seconds, reason), {}
        code = answer.get("code")
        if not isinstance(code, int):
            return Outcome(Ended.VANISHED, None, seconds, detail="the sandbox's answer has no status"), {}
        detail = str(answer.get("detail", ""))[:_ERROR_BYTES] + self._memory_words(kills)
        return Outcome(Ended.EXITED, code, seconds, detail=detail), answer

    def _converse(
        self, on_output: Callable[[bytes], None], on_data: Callable[[bytes], None], interrupt: Interrupt
    ) -> tuple[dict[str, Any], StopReason | None]:
        """Take frames until the answer. With a reason to stop: end everything inside, and do not wait for long."""
        channel = self._open_channel()
        reason: StopReason | None = None
        end_at = next_look = 0.0
        while True:
            now = time.monotonic()
            if reason is None and now >= next_look:
                next_look = now + _POLL_SECONDS
                if self._standing_at is not None and self._standing_at.goes_on():
                    self._standing_at = None
                    channel.send({"op": "resume"})
                reason = interrupt()
                if reason is not None:
                    end_at = now + _END_SECONDS
                    channel.send({"op": "end"})
            if reason is not None and now > end_at:
                return {}, reason
            try:
                frame = channel.next_frame(_POLL_SECONDS)
            except Vanished:
                if reason is not None:
                    return {}, reason
                raise
            if frame is None:
                continue
            kind, payload = frame
            if kind == b"E":
                return parse_answer(payload), reason
            if kind == b"O":
                on_output(payload)
            elif reason is None:
                on_data(payload)

    def _open_channel(self) -> Channel:
        if self._channel is None or self._destroyed:
            raise Vanished("the sandbox is not there (any more)")
        return self._channel

    def _last_words(self) -> str:
        text = os.pread(self._errors, _ERROR_BYTES, max(0, os.fstat(self._errors).st_size - _ERROR_BYTES))
        return " ".join(text.decode(errors="replace").split()) or "it left no message"

    def _memory_words(self, kills_before: int) -> str:
        if self._group is not None and self._group.oom_kills() > kills_before:
            return f"; the build needed more than its {self._limits.memory_bytes} bytes of memory"
        return ""

    # --- files

    def _copy(self, file: SourceFile, left_bytes: int, interrupt: Interrupt) -> int:
        path = self._workspace.path / "assets" / _plain_name(file.name)
        if path.exists():
            raise Refused(f"two files of the source are called {file.name!r}")
        with file.open() as body, path.open("xb") as copy:
            while data := body.read(_COPY_BYTES):
                left_bytes -= len(data)
                if left_bytes < 0:
                    raise Refused(f"the source is larger than {self._limits.source_bytes} bytes")
                try:
                    copy.write(data)
                except OSError as error:
                    raise ExecutorError(f"the source cannot be copied: {error}") from error
                if interrupt() is not None:
                    break
            os.fchmod(copy.fileno(), stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
        return left_bytes

    def _end_processes(self) -> None:
        if self._shim is None:
            return
        if self._shim.stdin is not None:
            try:
                self._shim.stdin.close()
            except BrokenPipeError:
                LOG.debug("the shim had ended before")
        try:
            self._shim.wait(_END_SECONDS + shim.GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            LOG.exception("the shim %d does not end; killing it", self._shim.pid)
            self._shim.kill()
            self._shim.wait()


def _plain_name(name: str) -> str:
    if not name or name in {".", ".."} or "/" in name or "\0" in name or len(name.encode()) > 255:
        raise Refused(f"{name!r} is not a file name")
    return name


def _refuse_data(_data: bytes) -> None:
    raise Vanished("the sandbox sent something that was not asked for")
