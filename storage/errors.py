"""What can go wrong with bytes: every failure is Missing, Transient or Permanent, and unsure is Transient.

"Missing" is a promise that the bytes are not there; a store that cannot tell must never make it, or an outage
would be read as "does not exist".
"""

from __future__ import annotations


class StorageError(Exception):
    """Base of all storage failures."""


class Missing(StorageError):
    """The store is sure that no such blob exists."""

    def __init__(self, locator: str) -> None:
        super().__init__(f"no blob at {locator}")
        self.locator = locator


class Transient(StorageError):
    """The store could not do it now; the same call may succeed later (time-out, busy, unsure)."""


class NoSpace(Transient):
    """The volume is full or over its quota (ENOSPC, EDQUOT); heals when space is back."""


class Permanent(StorageError):
    """The same call will fail again until a person acts (damaged bytes, wrong permission)."""


class Damaged(Permanent):
    """Stored bytes do not authenticate or do not have the promised size or digest."""


class KeyUnavailable(Permanent):
    """The key that wraps a blob's data key is unknown to the key provider, or is not the one that wrapped it."""


class KeyDestroyed(KeyUnavailable):
    """The key was destroyed on purpose; what it wrapped is unreadable for good."""


class ProviderAway(Transient):
    """The key provider cannot be asked now (unreachable, sealed, too busy); keys that are unwrapped already work on."""


class BodyRejected(StorageError):
    """An incoming body was refused; nothing of it was kept."""


class BodyTooShort(BodyRejected):
    """The body ended before its declared length."""

    def __init__(self, declared_bytes: int, received_bytes: int) -> None:
        super().__init__(f"incomplete body: {received_bytes} of {declared_bytes} bytes arrived")
        self.declared_bytes = declared_bytes
        self.received_bytes = received_bytes


class BodyTooLarge(BodyRejected):
    """The body is larger than the limit."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"body is larger than the limit of {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class DigestMismatch(BodyRejected):
    """The body's digest is not the one that was promised."""

    def __init__(self, algorithm: str, promised: str, computed: str) -> None:
        super().__init__(f"{algorithm} mismatch: promised {promised}, received {computed}")
        self.algorithm = algorithm
        self.promised = promised
        self.computed = computed
