"""What the hooks' routes need beside the registry's services, assembled once per process by the composition root."""

from __future__ import annotations

from dataclasses import dataclass

from hooks.builds.logs import LogStore
from hooks.pipelines.parts import Parts
from registry.clock import Clock
from registry.db import Database


@dataclass(frozen=True, slots=True)
class HookServices:
    """``actions`` is what the pipeline engine acts through; ``logs`` reads what builds have written."""

    db: Database
    clock: Clock
    actions: Parts
    logs: LogStore
