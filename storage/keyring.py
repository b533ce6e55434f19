"""The keys of a domain, and the master key that wraps them.

::

    master key (key provider)  wraps  domain keys (rows)  wrap  data keys (one per blob, in its row)  encrypt  bodies
                                                          seal  small fields (passwords and secrets in rows)

Rotating the master key wraps the domain keys anew; rotating a domain key wraps data keys anew; bodies stay as they
are. A domain key is named by its check value, so a provider that gives back another key is found out by the name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import KeyDestroyed, KeyUnavailable
from storage.sealing import key_check_value, new_key, seal, sealed_by, unseal

_DATA_KEY = "entrepot/data-key/v1"
_FIELD = "entrepot/field/v1"
_DOMAIN_KEY = "entrepot/domain-key/v1"

FRESH_SECONDS = 2.0
"""How long a process goes on with the keys it knows before it looks whether there are others."""


class KeyProvider(Protocol):
    """Holds master keys and never hands them out. May be called from many threads at once.

    Every method raises KeyUnavailable when the key is unknown or not the right one, or its use is denied, and
    ProviderAway when a remote provider cannot be asked now.
    """

    @property
    def name(self) -> str:
        """The word for it in the settings: ``file``, ``vault``, ``aws-kms``."""

    def wrap(self, key: bytes, context: str) -> bytes:
        """``key`` encrypted under the current master key, bound to ``context``; says which master key it was."""

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """The key that ``wrap`` was given with this ``context``, under whichever master key that was."""

    def current_id(self) -> str:
        """The name of the master key that ``wrap`` uses."""

    def master_of(self, wrapped: bytes) -> str | None:
        """The name of the master key that made ``wrapped``; None when another provider made it. Asks nobody."""

    def rotate(self) -> str:
        """Make a new master key (or a new version of it) the current one; old ones still unwrap. Returns its name."""

    def check(self) -> None:
        """Return when the provider is able to wrap and unwrap; called at start-up."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A domain key as it is kept in a row: its id (the check value of the key) and the key under the master key.

    ``wrapped`` is empty for a key that was destroyed. ``context`` is whose key it is, where it is not the keyring's own.
    """

    id: str
    wrapped: bytes = field(repr=False)
    context: str | None = None


@dataclass(frozen=True, slots=True)
class KeysNow:
    """All keys there are for a keyring, and which of them encrypts; None when none does."""

    keys: Sequence[WrappedKey]
    current_id: str | None


class Keyring:
    """The keys of one domain. ``context`` names the domain; its keys open under no other name.

    ``load`` is asked for a key id that the keyring does not know: another process may have rotated. ``reload`` is asked
    for all of them when what is known is older than FRESH_SECONDS, so that a process that runs encrypts under a new key,
    and forgets a destroyed one, without being told. Keys are unwrapped when first used and then kept, so that a read asks
    the provider nothing and goes on while it is away.
    """

    def __init__(
        self,
        provider: KeyProvider,
        context: str,
        *,
        load: Callable[[str], WrappedKey | None] | None = None,
        reload: Callable[[], KeysNow] | None = None,
    ) -> None:
        self._provider = provider
        self._context = context
        self._load = load
        self._reload = reload
        self._fresh_until = 0.0
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
        """The id of the key that encrypts. Raises KeyUnavailable when there is none, KeyDestroyed when there was one."""
        self._refresh()
        if self._current_id is None:
            if any(not key.wrapped for key in self._wrapped.values()):
                raise KeyDestroyed(_destroyed(self._context))
            raise KeyUnavailable(f"{self._context} has no key")
        return self._current_id

    def refresh(self) -> None:
        """Look now for keys that other processes made, retired or destroyed."""
        self._fresh_until = 0.0
        self._refresh()

    def _refresh(self) -> None:
        if self._reload is None or time.monotonic() < self._fresh_until:
            return
        now = self._reload()
        with self._lock:
            self._fresh_until = time.monotonic() + FRESH_SECONDS
            self._current_id = now.current_id
            for key in now.keys:
                self._wrapped[key.id] = key
                if not key.wrapped:
                    self._unwrapped.pop(key.id, None)

    def require_current(self) -> None:
        """Raise KeyUnavailable unless the current key can be used: asked before a body is received, not after."""
        self._key(self.current_id())

    def check(self) -> dict[str, KeyUnavailable]:
        """Unwrap every key; called at start-up. Returns the older keys that do not open, with the reasons.

        Raises KeyUnavailable when the master key is missing or does not open the current key, ProviderAway when that
        cannot be found out. Nothing is to be checked of a domain whose keys were destroyed.
        """
        self._provider.check()
        self._refresh()
        failing = {}
        with self._lock:
            keys = [key for key in self._wrapped.values() if key.wrapped]
        for key in keys:
            try:
                self._key(key.id)
            except KeyUnavailable as error:
                if key.id == self._current_id:
                    raise
                failing[key.id] = error
        return failing

    def rewrap(self, key: WrappedKey) -> WrappedKey:
        """The same domain key under the provider's current master key."""
        context = f"{_DOMAIN_KEY}:{key.id}:{key.context or self._context}"
        return WrappedKey(key.id, self._provider.wrap(self._unwrap(key), context), key.context)

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
        key_id = sealed_by(sealed)
        cipher = self._key(key_id)
        return unseal(cipher, sealed, purpose, self._wrapped[key_id].context or self._context, context)

    def _key(self, key_id: str) -> AESGCM:
        self._refresh()
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
        context = key.context or self._context
        if not key.wrapped:
            raise KeyDestroyed(_destroyed(context))
        plain = self._provider.unwrap(key.wrapped, f"{_DOMAIN_KEY}:{key.id}:{context}")
        if key_check_value(plain) != key.id:
            raise KeyUnavailable(f"the master key does not give key {key.id} of {context}, but another key")
        return plain

    def _wrapping_context(self, key_id: str) -> str:
        return f"{_DOMAIN_KEY}:{key_id}:{self._context}"


def _destroyed(context: str) -> str:
    return f"the keys of {context} were destroyed, and what they encrypted is unreadable for good"
