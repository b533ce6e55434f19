"""The ``Idempotency-Key`` header: a POST that is sent again with the same key is not done again."""

from __future__ import annotations

from flask import Response, request

from registry.http import context
from registry.http.json_body import read_body
from registry.idempotency import HEADER, Answer, Begun, digest_of

REPLAYED = "Idempotent-Replayed"


def repeatable(method: str) -> Begun | Response | None:
    """None for a request without a key; else what it begins, or the answer that it had before.

    Raises what ``Idempotency.begin`` does.
    """
    key, who = request.headers.get(HEADER), context.identity()
    if method != "POST" or key is None or who is None:
        return None
    services = context.services()
    sent = read_body(services.limits.json_bytes) if request.content_length else b""
    # With another of an account's tokens it is another request: one for less is not answered as one for more was.
    asked = [request.method.encode(), request.full_path.encode("utf-8", "surrogateescape"), sent]
    digest = digest_of([*asked, str(who.token_id).encode()])
    begun = services.idempotency.begin(who.account_id, key, digest, services.clock())
    if isinstance(begun, Begun):
        return begun
    response = Response(begun.body, begun.status, content_type=begun.content_type)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers[REPLAYED] = "true"
    return response


def keep(begun: Begun, response: Response) -> None:
    """Keep the answer to a request that was done."""
    answer = Answer(response.status_code, response.content_type or "", response.get_data())
    context.services().idempotency.done(begun, answer)
