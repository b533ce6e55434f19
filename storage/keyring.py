"""The keys of a domain, and the master key that wraps them.

::

    master key (key provider)  wraps  domain keys (rows)  wrap  data keys (one per blob, in its row)  encrypt  bodies
                                                          seal  small fields (passwords and secrets in rows)

Rotating the master key wraps the domain keys anew; rotating a domain key wraps data keys anew; bodies stay as they
are. A domain key is named by its check value, so a provider that gives back another key is found out by the name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import KeyUnavailable
from storage.sealing import key_check_value, new_key, seal, sealed_by, unseal

_DATA_KEY = "entrepot/data-key/v1"
_FIELD = "entrepot/field/v1"
_DOMAIN_KEY = "entrepot/domain-key/v1"


class KeyProvider(Protocol):
    """Holds master keys and never hands them out. May be called from many threads at once.

    Every method raises KeyUnavailable when the key is unknown or not the right one, and Transient when a remote
    provider cannot be asked now.
    """

    def wrap(self, key: bytes, context: str) -> bytes:
        """``key`` encrypted under the current master key, bound to ``context``; says which master key it was."""

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """The key that ``wrap`` was given with this ``context``, under whichever master key that was."""

    def current_id(self) -> str:
        """The name of the master key that ``wrap`` uses."""

    def check(self) -> None:
        """Return when the provider is able to wrap and unwrap; called at start-up."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A domain key as it is kept in a row: its id (the check value of the key) and the key under the master key."""

    id: str
    wrapped: bytes = field(repr=False)


class Keyring:
    """The keys of one domain. ``context`` names the domain; its keys open under no other name.

    ``load`` is asked for a key id that the keyring does not know: another process may have rotated. Keys are unwrapped
    when first used and kept for the life of the process, so that a read asks the provider nothing.
    """

    def __init__(
        self, provider: KeyProvider, context: str, *, load: Callable[[str], WrappedKey | None] | None = None
    ) -> None:
        self._provider = provider
        self._context = context
        self._load = load
        self._lock = Lock()
        self._wrapped: dict[str, WrappedKey] = {}
        self._unwrapped: dict[str, AESGCM] = {}
        self._current_id: str | None = None

    def __repr__(self) -> str:
        return f"Keyring({self._context!r}, keys={sorted(self._wrapped)})"

    def new_key(self) -> WrappedKey:
        """A fresh domain key, wrapped. The caller keeps it in a row, and only then calls ``add``."""
        key = new_key()
        key_id = key_check_value(key)
        return WrappedKey(key_id, self._provider.wrap(key, self._wrapping_context(key_id)))

    def add(self, key: WrappedKey, *, current: bool = True) -> None:
        """Make a key known; with ``current`` it is the one that encrypts from now on."""
        with self._lock:
            self._wrapped[key.id] = key
            if current:
                self._current_id = key.id

    def current_id(self) -> str:
        """The id of the key that encrypts. Raises KeyUnavailable when no key was added."""
        if self._current_id is None:
            raise KeyUnavailable(f"{self._context} has no key")
        return self._current_id

    def require_current(self) -> None:
        """Raise KeyUnavailable unless the current key can be used: asked before a body is received, not after."""
        self._key(self.current_id())

    def check(self) -> None:
        """Unwrap every key; called at start-up.

        Raises KeyUnavailable, naming the key, when the master key is missing or is not the one that wrapped it.
        """
        self._provider.check()
        with self._lock:
            keys = list(self._wrapped.values())
        for key in keys:
            self._unwrap(key)

    def rewrap(self, key: WrappedKey) -> WrappedKey:
        """The same domain key under the provider's current master key."""
        context = self._wrapping_context(key.id)
        return WrappedKey(key.id, self._provider.wrap(self._unwrap(key), context))

    def wrap_data_key(self, data_key: bytes, context: str) -> bytes:
        """``data_key`` under the current domain key, bound to ``context``; about 80 bytes longer."""
        return self._seal(data_key, _DATA_KEY, context)

    def unwrap_data_key(self, envelope: bytes, context: str) -> bytes:
        """What ``wrap_data_key`` was given.

        Raises KeyUnavailable for an unknown key, Damaged when envelope or context was changed.
        """
        return self._unseal(envelope, _DATA_KEY, context)

    def seal(self, plain: bytes, context: str) -> bytes:
        """A small secret, encrypted for a row. ``context`` says which field of which row, and is needed to open it."""
        return self._seal(plain, _FIELD, context)

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """What ``seal`` was given. Raises KeyUnavailable or Damaged, as ``unwrap_data_key`` does."""
        return self._unseal(sealed, _FIELD, context)

    @staticmethod
    def key_id_of(sealed: bytes) -> str:
        """The id of the domain key under which something was sealed or wrapped. Raises Damaged."""
        return sealed_by(sealed)

    def _seal(self, plain: bytes, purpose: str, context: str) -> bytes:
        key_id = self.current_id()
        return seal(self._key(key_id), key_id, plain, purpose, self._context, context)

    def _unseal(self, sealed: bytes, purpose: str, context: str) -> bytes:
        return unseal(self._key(sealed_by(sealed)), sealed, purpose, self._context, context)

    def _key(self, key_id: str) -> AESGCM:
        cipher = self._unwrapped.get(key_id)
        if cipher is not None:
            return cipher
        wrapped = self._wrapped.get(key_id)
        if wrapped is None and self._load is not None:
            wrapped = self._load(key_id)
            if wrapped is not None and wrapped.id == key_id:
                self.add(wrapped, current=False)
        if wrapped is None or wrapped.id != key_id:
            raise KeyUnavailable(f"{self._context} has no key {key_id!r}")
        cipher = AESGCM(self._unwrap(wrapped))
        with self._lock:
            return self._unwrapped.setdefault(key_id, cipher)

    def _unwrap(self, key: WrappedKey) -> bytes:
        plain = self._provider.unwrap(key.wrapped, self._wrapping_context(key.id))
        if key_check_value(plain) != key.id:
            raise KeyUnavailable(f"the master key does not give key {key.id} of {self._context}, but another key")
        return plain

    def _wrapping_context(self, key_id: str) -> str:
        return f"{_DOMAIN_KEY}:{key_id}:{self._context}"
