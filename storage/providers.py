"""Several key providers as one: the chosen one wraps, and each unwraps what it wrapped.

So a server moves from one provider to another without a moment at which its keys do not open.
"""

from __future__ import annotations

from collections.abc import Sequence

from storage.errors import KeyUnavailable
from storage.keyring import KeyProvider


class Providers:
    """``chosen`` wraps; what it did not wrap, one of ``others`` unwraps."""

    def __init__(self, chosen: KeyProvider, others: Sequence[KeyProvider] = ()) -> None:
        self.chosen = chosen
        self._all = (chosen, *others)

    def __repr__(self) -> str:
        return f"Providers({self.chosen!r}, {[each.name for each in self._all[1:]]})"

    @property
    def name(self) -> str:
        """The chosen provider's name."""
        return self.chosen.name

    def wrap(self, key: bytes, context: str) -> bytes:
        """``key`` under the chosen provider's current master key."""
        return self.chosen.wrap(key, context)

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """What any of the providers wrapped. Raises KeyUnavailable when the one that did is not configured."""
        return self.maker_of(wrapped).unwrap(wrapped, context)

    def current_id(self) -> str:
        """The master key that ``wrap`` uses."""
        return self.chosen.current_id()

    def master_of(self, wrapped: bytes) -> str | None:
        """The master key that made ``wrapped``, of whichever provider."""
        return next((found for each in self._all if (found := each.master_of(wrapped)) is not None), None)

    def maker_of(self, wrapped: bytes) -> KeyProvider:
        """The provider that made ``wrapped``. Raises KeyUnavailable when it is none of these."""
        for each in self._all:
            if each.master_of(wrapped) is not None:
                return each
        known = ", ".join(each.name for each in self._all)
        raise KeyUnavailable(
            f"a key was wrapped by a provider that the settings do not name (they name {known}): put the [keys] settings "
            "of that provider back"
        )

    def rotate(self) -> str:
        """Make a new master key of the chosen provider."""
        return self.chosen.rotate()

    def check(self) -> None:
        """Check the chosen provider; the others are asked when a key of theirs is needed."""
        self.chosen.check()
