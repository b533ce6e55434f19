"""What becomes of a document that is applied."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one document. ``version`` is a pipeline's, ``warnings`` tell of what in it has no effect.

    ``kind`` is ``pipeline``, ``build project`` or ``pipeline source``; ``change`` is ``created``, ``updated`` or
    ``unchanged``.
    """

    kind: str
    name: str
    change: str
    version: int | None = None
    warnings: tuple[str, ...] = ()
