"""Webhooks of anything (CodePipeline's V1 webhooks): proved by HMAC or a token, filtered by what their JSON says. Pure."""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from hooks.builds.push_signatures import Delivery
from registry.errors import Invalid, Unauthenticated

HMAC, TOKEN = PROVIDERS = ("hmac", "token")
"""``X-Hub-Signature-256`` over the body, as CodePipeline's GITHUB_HMAC with a hash that holds; or the secret itself in
``X-Entrepot-Token``. CodePipeline's UNAUTHENTICATED and IP are not there: neither proves anything."""
MAX_FILTERS = 5
_STEP = re.compile(r"""\.([A-Za-z0-9_-]{1,100})|\[([0-9]{1,4})\]|\['([^'\]]{1,100})'\]""")
_NAMED = re.compile(r"\{([A-Za-z0-9]{1,50})\}")


def filter_faults(filters: Sequence[Mapping[str, str]]) -> list[str]:
    """Everything that is wrong with filters."""
    faults = [] if len(filters) <= MAX_FILTERS else [f"filters: at most {MAX_FILTERS}"]
    for each in filters:
        if steps_of(each.get("jsonPath", "")) is None:
            faults.append(f"filters: jsonPath {each.get('jsonPath', '')[:100]!r} is none like $.repository.name")
        if not 1 <= len(each.get("matchEquals", "")) <= 150:
            faults.append("filters: matchEquals has 1 to 150 characters")
    return faults


def steps_of(path: str) -> tuple[str | int, ...] | None:
    """The names and numbers of a path (``$.a['b'][0]``); None for another thing."""
    if not path.startswith("$") or len(path) > 150:
        return None
    found: list[str | int] = []
    at = 1
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            return None
        found.append(int(step[2]) if step[2] is not None else step[1] or step[3])
        at = step.end()
    return tuple(found)


def passes(filters: Sequence[Mapping[str, str]], payload: Any, configuration: Mapping[str, str]) -> bool:
    """Whether all filters hold. ``{Name}`` in ``matchEquals`` is that setting of the source action."""

    def setting(found: re.Match[str]) -> str:
        return configuration.get(found[1], found[0])

    for each in filters:
        value = _at(payload, steps_of(each["jsonPath"]) or ())
        if value is None or value != _NAMED.sub(setting, each["matchEquals"]):
            return False
    return True


def _at(payload: Any, steps: Sequence[str | int]) -> str | None:
    """The text of what lies there: a number and a boolean as JSON writes them; None for anything else."""
    for step in steps:
        if isinstance(step, int):
            payload = payload[step] if isinstance(payload, list) and step < len(payload) else None
        else:
            payload = payload.get(step) if isinstance(payload, dict) else None
    if isinstance(payload, bool):
        return "true" if payload else "false"
    return str(payload) if isinstance(payload, str | int) else None


def verify(provider: str, headers: Mapping[str, str], body: bytes, secret: str) -> Delivery:
    """Check a delivery. Raises Unauthenticated, Invalid.

    What is signed counts once by its body, since nothing else of it is signed; what brings the secret by its
    ``Idempotency-Key``, or each time.
    """
    found = {name.lower(): value for name, value in headers.items()}
    if provider == HMAC:
        expected = "sha256=" + hmac.digest(secret.encode(), body, hashlib.sha256).hex()
        if not hmac.compare_digest(found.get("x-hub-signature-256", "").encode(), expected.encode()):
            raise Unauthenticated("the signature does not fit")
        return Delivery("custom", (f"body:{hashlib.sha256(body).hexdigest()}",))
    if not hmac.compare_digest(found.get("x-entrepot-token", "").encode(), secret.encode()):
        raise Unauthenticated("the token does not fit")
    key = found.get("idempotency-key", "")
    if len(key) > 64 or not key.isprintable():
        raise Invalid("an Idempotency-Key has at most 64 printable characters")
    return Delivery("custom", (f"id:{key or uuid.uuid4().hex}",))
