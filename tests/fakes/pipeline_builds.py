"""Builds that run nowhere and end when a test says so: the engine's parts, without a machine."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from sqlalchemy.orm import Session

from hooks.pipelines.engine import on_build_finished
from hooks.pipelines.parts import BuildOutcome, BuildRequest, Parts
from registry.errors import NotFound

_NUMBERS = itertools.count(1)


class Builds:
    """``requests`` are those asked for, by the ids they were given. A project called ``bad`` is not there."""

    def __init__(self) -> None:
        self.requests: dict[str, BuildRequest] = {}
        self.outcomes: dict[str, BuildOutcome] = {}

    def _start(self, _session: Session, request: BuildRequest, _now: datetime) -> str:
        if request.project == "bad":
            raise NotFound("build project", "bad")
        build_id = f"build-{next(_NUMBERS)}"
        self.requests[build_id] = request
        return build_id

    def end(
        self,
        session: Session,
        parts: Parts,
        build_id: str,
        *,
        ok: bool = True,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """End a build, as its handler does it: with the engine, in one transaction."""
        self.outcomes[build_id] = BuildOutcome(ok, "", variables or {})
        on_build_finished(session, parts, build_id)

    def parts(self, real: Parts) -> Parts:
        """The real parts but for the builds."""
        return replace(
            real,
            start_build=self._start,
            build_outcome=lambda _session, build_id: self.outcomes.get(build_id),
            stop_build=lambda *_: None,
        )
