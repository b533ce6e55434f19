"""What can run a build's commands: the contract of all executors.

Life cycle, in this order: 1 ``available`` (once, when the worker starts) → 2 ``prepare`` (one sandbox per attempt at a
build) → 3 ``fetch`` (the source, once) → 4 ``define`` (the variables, once) → 5 ``run`` (any number of items, one after
the other) → 6 ``destroy`` (always; may be repeated; after any failure, too). ``read_file``, ``environment``,
``collect``, ``restore`` and ``save`` may come any time after 3. Items find the command ``codebuild-hash-files`` on their
PATH.

"It ran and failed" is a value (``Outcome``); "it could not be run" is an exception (``ExecutorError``), and the job is
tried again, perhaps elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import BinaryIO, Protocol

REGISTRY_PORT = 7979
REGISTRY_BASE_URL = f"http://127.0.0.1:{REGISTRY_PORT}"
"""Where a build with network ``registry`` finds the registry: a port of its own loopback, and nothing else answers."""


PUBLISH_PORT = 7980
PUBLISH_BASE_URL = f"http://127.0.0.1:{PUBLISH_PORT}"
"""Where a build that may publish does so: there the worker adds the credential, which the build never has."""


class ExecutorError(Exception):
    """The executor could not run it (no sandbox, no disk, worker problem); says nothing about the build itself."""


class Refused(Exception):
    """What a build brings or makes cannot be taken, now or later (a file is gone, a size over its limit): it fails."""


class StopReason(StrEnum):
    """Why a running build has to end early. LOST: another worker may own it by now; nothing may be reported."""

    STOPPED = "stopped"
    TIMED_OUT = "timed_out"
    LOST = "lost"


Interrupt = Callable[[], StopReason | None]
"""Asked several times a second while something runs; a reason ends it."""


class Ended(StrEnum):
    """How an item ended. VANISHED: the sandbox itself ended under it (its commands killed it, or memory ran out)."""

    EXITED = "exited"
    INTERRUPTED = "interrupted"
    VANISHED = "vanished"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How something ran. ``exit_code`` is the shell's (128 + signal for a killed one), None unless it EXITED.

    ``reason`` is set when it was INTERRUPTED; ``detail`` is one line for people, where there is something to say.
    """

    ended: Ended
    exit_code: int | None
    seconds: float
    reason: StopReason | None = None
    detail: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether it came to its end with status 0."""
        return self.ended is Ended.EXITED and self.exit_code == 0


class Network(StrEnum):
    """What a build can reach: nothing; exactly one address, the registry's; or, where the server allows it, all."""

    NONE = "none"
    REGISTRY = "registry"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Login:
    """The build's own credential for the registry. ``token`` never shows in a ``repr``."""

    login: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Publishing:
    """What a build may publish with, for the worker's eyes only.

    ``paths`` are the beginnings of the paths that it may ask for, ``authorization`` is the value of the header.
    """

    paths: tuple[str, ...]
    authorization: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of the source. ``open`` may raise Refused or ExecutorError."""

    name: str
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class SourceBundle:
    """The files of a source, and the name of the one archive among them that is unpacked (inside the sandbox).

    ``secondary`` is source identifier → archive of a secondary source, each unpacked into a directory of its own, which
    the sandbox's ``variables`` name from then on (CODEBUILD_SRC_DIR_identifier). ``facts`` are variables that are known
    when the files have been fetched. Of the sources in ``as_is`` a single directory at the top stays where it is.
    """

    files: Sequence[SourceFile]
    unpack: str | None = None
    secondary: Mapping[str, str] = field(default_factory=dict)
    facts: Callable[[], Mapping[str, str]] = dict
    as_is: frozenset[str] = frozenset()


def _nobody(_text: str) -> None:
    """Where nobody wants to know."""


@dataclass(frozen=True, slots=True)
class RoomRequest:
    """What a project says about the room itself; an executor without images, sizes or privileges says so.

    ``image`` "" is the executor's usual one. ``pinned_digest`` is what the image was when the project's builds first
    used it, "" when they never did; ``on_digest`` is told what it is now, before anything runs. ``compute_type`` is one
    of CodeBuild's names, "" for the executor's usual limits.
    """

    image: str = ""
    pinned_digest: str = ""
    on_digest: Callable[[str], object] = _nobody
    compute_type: str = ""
    is_privileged: bool = False


@dataclass(frozen=True, slots=True)
class SandboxRequest:
    """What a sandbox is made for. ``home_files`` are texts by path below the build's home, for its eyes only.

    ``say`` takes lines for the build's log: which image it is, what was asked for and is not had. With ``publishing`` (and a
    network) ``PUBLISH_PORT`` of its loopback leads to the registry, too.
    """

    build_id: str
    network: Network = Network.NONE
    credentials: Login | None = None
    home_files: Mapping[str, str] = field(default_factory=dict)
    room: RoomRequest = field(default_factory=RoomRequest)
    say: Callable[[str], object] = _nobody
    publishing: Publishing | None = None


class Breakpoints(Protocol):
    """Who is told of an item that stands at a breakpoint (``codebuild-breakpoint``)."""

    def stands(self) -> None:
        """The item stands."""
        ...

    def goes_on(self) -> bool:
        """Whether it is to go on; asked several times a second while it stands."""
        ...

    def moved(self) -> None:
        """It goes on, and nobody said so: something in the sandbox let it (``codebuild-resume``)."""
        ...


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a command list: a script for a new shell process.

    ``environment`` wins over what earlier items left. With ``carries_state`` exported variables and the current
    directory are taken from the item before and kept for the next (buildspec 0.2), else every item starts afresh.
    ``user`` is who runs it, where the sandbox has users; "" is the sandbox's usual one. Without ``breakpoints`` it stands
    at none.
    """

    script: str
    shell: str = "/bin/sh"
    environment: Mapping[str, str] = field(default_factory=dict)
    carries_state: bool = True
    user: str = ""
    breakpoints: Breakpoints | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files ``collect`` takes: globs relative to ``base_directory``, that relative to the source directory.

    With ``enable_symlinks`` links are taken as links, else not at all; they are never followed.
    """

    files: tuple[str, ...]
    base_directory: str = ""
    discard_paths: bool = False
    exclude_paths: tuple[str, ...] = ()
    enable_symlinks: bool = False


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether an executor may be used here. ``reason`` says why not, or which protections are in force."""

    ok: bool
    reason: str


class Sandbox(Protocol):
    """One build attempt's closed room. Not thread-safe."""

    @property
    def source_dir(self) -> str:
        """Path of the source as commands see it; the first item's current directory."""
        ...

    @property
    def variables(self) -> Mapping[str, str]:
        """Variables the sandbox itself gives to items: HOME, PATH, CODEBUILD_SRC_DIR, ENTREPOT_ASSETS_DIR."""
        ...

    @property
    def has_users(self) -> bool:
        """Whether ``Item.user`` is carried out. False: everything runs as one user, the one ``variables`` name."""
        ...

    def fetch(self, source: SourceBundle, sink: Callable[[bytes], None], interrupt: Interrupt) -> Outcome:
        """Bring the source in. A broken archive is an Outcome. Raises Refused, ExecutorError."""
        ...

    def define(self, variables: Mapping[str, str]) -> None:
        """The whole environment of the first item; without it, that is ``variables``. Raises ExecutorError."""
        ...

    def run(self, item: Item, sink: Callable[[bytes], None], interrupt: Interrupt) -> Outcome:
        """Run one item; its output goes to ``sink`` as it comes. After an interruption only ``destroy`` may follow."""
        ...

    def read_file(self, path: str, limit_bytes: int) -> bytes | None:
        """At most ``limit_bytes`` + 1 bytes of a regular file below the source directory; None when there is none."""
        ...

    def environment(self) -> Mapping[str, str]:
        """The variables as the last item left them."""
        ...

    def collect(
        self, selection: Selection, write: Callable[[bytes], object], interrupt: Interrupt
    ) -> tuple[Outcome, int]:
        """Write a zip of the selected files to ``write``; the number of files. Nothing matched is a failed Outcome.

        Raises Refused when the zip is over its limit.
        """
        ...

    def save(self, paths: Sequence[str], write: Callable[[bytes], object], interrupt: Interrupt) -> tuple[Outcome, int]:
        """Write an archive of what matches ``paths`` to ``write``; the number of files, 0 when nothing matched.

        Globs are absolute or relative to the source directory; ``~`` and ``/root`` are the build's home. The build's own
        credentials are never in it. The archive is for ``restore`` alone. Raises Refused when it is over its limit.
        """
        ...

    def restore(self, archive: Iterable[bytes], sink: Callable[[bytes], None], interrupt: Interrupt) -> Outcome:
        """Put back what ``save`` of some sandbox wrote; files that are there already stay. Raises what ``archive`` does.

        After anything was raised only ``destroy`` may follow.
        """
        ...

    def destroy(self) -> None:
        """End every process of the sandbox and remove what it left. Idempotent; succeeds after any failure."""
        ...


class Executor(Protocol):
    """Makes sandboxes. Thread-safe."""

    @property
    def name(self) -> str:
        """The word for it in a project's environment (``process``)."""
        ...

    def available(self) -> Availability:
        """Whether it works here and keeps what it promises; checked by trying."""
        ...

    def prepare(self, request: SandboxRequest) -> Sandbox:
        """A fresh sandbox. Raises ExecutorError, and Refused when what is asked for will not be had here."""
        ...
