"""Collecting bodies that no row refers to: left by writers that died between commit and row, or by deleted versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from storage.blobs import BlobStore, Locator, StoredInfo
from storage.errors import StorageError

_BATCH = 500  # bodies per question: within the 999 parameters that an older SQLite allows a statement


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What a sweep found and did; with ``dry_run``, what it would have done. Sizes are those on the medium."""

    examined: int
    deleted: int
    deleted_bytes: int
    unfinished: int
    failed: tuple[Locator, ...]
    dry_run: bool


def sweep(
    store: BlobStore,
    is_referenced: Callable[[Sequence[Locator]], set[Locator]],
    *,
    older_than: datetime,
    dry_run: bool = False,
) -> SweepReport:
    """Delete bodies that are older than ``older_than`` and not referenced, and what dead writers left unfinished.

    ``is_referenced`` is given at most 500 locators and returns those that a row refers to; it is asked right before
    the deletion, and whatever it raises ends the sweep. A body that cannot be deleted now is reported as failed and
    left to the next sweep. ``older_than`` (timezone-aware) must lie further back than the longest upload takes up to
    its row: a body is as old as its first byte.
    """
    examined = deleted = deleted_bytes = 0
    failed: list[Locator] = []
    old = (body for body in store.iterate() if body.created_at < older_than)
    for batch in _batches(old):
        examined += len(batch)
        referenced = is_referenced([body.locator for body in batch])
        for body in batch:
            if body.locator in referenced:
                continue
            try:
                if not dry_run:
                    store.delete(body.locator)
            except StorageError:
                failed.append(body.locator)
            else:
                deleted += 1
                deleted_bytes += body.stored_bytes
    unfinished = store.discard_unfinished(older_than, dry_run=dry_run)
    return SweepReport(examined, deleted, deleted_bytes, unfinished, tuple(failed), dry_run)


def _batches(bodies: Iterator[StoredInfo]) -> Iterator[list[StoredInfo]]:
    while batch := list(islice(bodies, _BATCH)):
        yield batch
