"""What the hooks' routes need beside the registry's services, assembled once per process by the composition root."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hooks.builds.logs import LogStore
from hooks.pipelines.parts import Parts
from registry.clock import Clock
from registry.db import Database
from registry.repos.sealed_fields import SealedField
from registry.stores import DomainStores


@dataclass(frozen=True, slots=True)
class HookServices:
    """``actions`` is what the pipeline engine acts through; ``logs`` reads what builds have written.

    ``sealed_fields`` are all columns that the key rings of ``stores`` seal into.
    """

    db: Database
    clock: Clock
    actions: Parts
    logs: LogStore
    stores: DomainStores
    sealed_fields: Sequence[SealedField]
