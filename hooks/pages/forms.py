"""What forms of webhooks and subscriptions have in common."""

from __future__ import annotations

import re

from flask import request

from hooks.notifications.filters import Filter
from registry import events
from registry.errors import NotFound, Problem

_LONGEST_ID = 2**31 - 1


def filter_sent() -> Filter:
    """The filter in the form: kinds stand one after the other, with commas or blanks between."""
    form = request.form
    kinds = tuple(word for word in re.split(r"[\s,]+", form.get("kinds", "")) if word)
    texts = (form.get(name, "").strip() or None for name in ("domain", "repository", "format", "package"))
    return Filter(kinds, *texts)


def kinds_known() -> list[tuple[str, str]]:
    """Every kind of event with what it tells, by name."""
    return sorted(events.CATALOGUE.items())


def sentence(error: Problem) -> str:
    """The error's message with a capital at its beginning."""
    text = str(error)
    return text[:1].upper() + text[1:]


def number(value: int) -> int:
    """A row's number out of an address. Raises NotFound for one that no row can have."""
    if value > _LONGEST_ID:
        raise NotFound("page", str(value)[:20])
    return value
