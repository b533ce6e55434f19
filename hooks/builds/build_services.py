"""What builds need of the rest of the server, in one place: for the worker's own builds and for those of runners."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from sqlalchemy.orm import Session

from hooks.builds.bundles import FetchInput, fetches_nothing
from hooks.builds.cache_scope import PROTECTED_REFS
from hooks.builds.git_fetch import GitCredential
from hooks.builds.grants import IssuedToken, PublishDoor
from hooks.builds.logs import Sealer
from hooks.builds.project import SourceSettings
from hooks.builds.projects import DEFAULT_TYPES
from hooks.builds.records import OnFinished
from hooks.builds.references import Resolver, no_store
from hooks.builds.source import PackageSource
from hooks.builds.stored_outputs import StoredOutputs
from hooks.models.build import Build
from registry.clock import Clock


def _no_files(_source: PackageSource, _token: IssuedToken, _place: tuple[str, str] | None = None) -> Mapping[str, str]:
    return {}


def _no_values(_build: Build) -> Resolver:
    return no_store


def _no_credential(_project_id: int, _source: SourceSettings) -> GitCredential | None:
    return None


def _let_live(_session: Session, _token_id: int) -> None:
    """Where tokens end by themselves."""


def _let_pass(_tokens: Collection[str], _build_id: str) -> None:
    """Where nobody knows of tokens."""


@dataclass(frozen=True, slots=True)
class BuildServices:
    """What builds need of the rest of the server, handed in by the composition root.

    ``open_asset`` raises Refused when the file is gone for good (or is not the promised one) and ExecutorError when it
    cannot be had now. ``find_spec`` may give a buildspec for a source that has none in it. ``issue_token`` gives the
    least a build of that row needs. ``client_variables`` are the environment of the format's clients, with addresses
    below ``hooks.builds.executor.REGISTRY_BASE_URL``, ``client_files`` what those of them need below the home that read
    no ``~/.netrc``. ``outputs`` keeps artifacts and caches; None where none are kept. ``protected_refs`` are the patterns
    of branches and tags whose builds share the protected caches.
    ``fetch_input`` brings what is no package's file: git sources and uploads.
    ``public_url`` is where people find the server's pages, None where nobody has said.
    ``on_tokens`` (tokens, build id) is told of tokens of this server in a log, which does not show them.
    ``git_credential`` (project id, source) is for builds that fetch elsewhere; raises ExecutorError when it does not open
    now. ``end_token`` revokes an ``IssuedToken`` by its id, in a transaction of the caller's.
    ``resolver`` makes what gets the values of parameters and secrets that a build names. ``open_publishing`` lets an
    attempt publish to a repository; None where builds publish nowhere. ``environment_types`` are those that projects may
    name, and so may the builds of a batch that a runner finds.
    """

    open_asset: Callable[[PackageSource, str], BinaryIO]
    find_spec: Callable[[PackageSource], str | None]
    issue_token: Callable[[Build], IssuedToken]
    client_variables: Callable[[PackageSource], Mapping[str, str]]
    on_finished: OnFinished
    sealer: Sealer
    clock: Clock
    public_url: str | None = None
    client_files: Callable[[PackageSource, IssuedToken, tuple[str, str] | None], Mapping[str, str]] = _no_files
    open_publishing: Callable[[Build, tuple[str, str]], PublishDoor] | None = None
    outputs: StoredOutputs | None = None
    protected_refs: tuple[str, ...] = PROTECTED_REFS
    on_tokens: Callable[[Collection[str], str], object] = _let_pass
    fetch_input: FetchInput = fetches_nothing
    resolver: Callable[[Build], Resolver] = _no_values
    git_credential: Callable[[int, SourceSettings], GitCredential | None] = _no_credential
    end_token: Callable[[Session, int], object] = _let_live
    environment_types: Collection[str] = DEFAULT_TYPES
