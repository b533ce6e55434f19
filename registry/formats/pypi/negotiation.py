"""Which representation of the simple index a client gets (PEP 691, RFC 9110 §12.5.1)."""

from __future__ import annotations

import re

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
HTML_TYPE = "application/vnd.pypi.simple.v1+html"
PLAIN_TYPE = "text/html"

_ALIASES = {
    "application/vnd.pypi.simple.latest+json": JSON_TYPE,
    "application/vnd.pypi.simple.latest+html": HTML_TYPE,
}
_OFFERS = (JSON_TYPE, HTML_TYPE, PLAIN_TYPE)
_ACCEPT_PARTS = 64


def negotiate(accept: str | None, format_parameter: str | None = None) -> str | None:
    """Choose the page's type (PEP 691, RFC 9110 12.5.1). None when no type we have is acceptable.

    ``format_parameter`` is the value of ``?format=`` and wins. Without preference the answer is plain HTML, for
    browsers and old tools; a type that is named wins over one that only a wildcard allows.
    """
    if format_parameter:
        wanted = format_parameter.strip().lower().replace(" ", "+")  # an unescaped "+" in a query is a blank
        wanted = _ALIASES.get(wanted, wanted)
        return wanted if wanted in _OFFERS else None
    ranges = _accept_ranges(accept or "")
    if not ranges:
        return PLAIN_TYPE
    best: tuple[float, int, int] = (0.0, 0, 0)
    chosen: str | None = None
    for rank, offer in enumerate(_OFFERS):
        matches = [(3, offer), (2, offer.partition("/")[0] + "/*"), (1, "*/*")]
        specificity, quality = next(((level, ranges[key]) for level, key in matches if key in ranges), (0, 0.0))
        # Among types that only "*/*" allows plain HTML comes first, among named ones JSON does.
        order = (quality, specificity, rank if specificity == 1 else -rank)
        if quality > 0 and (chosen is None or order > best):
            best, chosen = order, offer
    return chosen


def _accept_ranges(accept: str) -> dict[str, float]:
    ranges: dict[str, float] = {}
    for part in accept.split(",", _ACCEPT_PARTS)[:_ACCEPT_PARTS]:
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                quality = _quality(value.strip())
        if media:
            media = _ALIASES.get(media, media)
            ranges[media] = max(quality, ranges.get(media, 0.0))
    return ranges


def _quality(text: str) -> float:
    # RFC 9110 12.4.2: 0 to 1 with three digits; what is something else asks for nothing.
    return float(text) if re.fullmatch(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", text) else 0.0
