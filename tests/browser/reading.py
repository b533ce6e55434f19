"""Reading a page as a browser would: strictly, and with an eye for what should not be there."""

import re
from collections.abc import Iterator
from typing import Any

import html5lib

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
)
_ASSET = re.compile(r"/static/(app\.js|app\.css|favicon\.svg)\?v=[0-9a-f]{12}\Z")
_OURS = {"svg", "path", "circle", "rect", "g"}


def parse(text: str) -> Any:
    """The tree. Raises html5lib.html5parser.ParseError for anything a browser would have to repair."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)


def fragment(text: str) -> Any:
    return html5lib.HTMLParser(namespaceHTMLElements=False).parseFragment(text)


def elements(tree: Any) -> Iterator[tuple[str, dict[str, str]]]:
    for element in tree.iter():
        if isinstance(element.tag, str):
            yield element.tag.rpartition("}")[2], {str(key): value for key, value in element.attrib.items()}


def dangers(tree: Any) -> list[str]:
    """What could act or fetch: scripts and styles that are not our files, handlers, odd links, foreign addresses."""
    found = []
    for tag, attributes in elements(tree):
        if tag in {"script", "link", "iframe", "object", "embed", "base", "style", "meta", "math", "foreignObject"}:
            found += _strange_element(tag, attributes)
        if tag == "svg" and attributes.get("class") not in {"icon", "trend-picture", "shares", "spark"}:
            found.append("svg that is no icon and no chart of ours")
        for name, value in attributes.items():
            if name.startswith("on") or name in {"style", "srcset", "ping", "background", "formaction", "xlink:href"}:
                found.append(f"{tag} {name}={value}")
            if name in {"href", "src", "action"} and tag not in {"script", "link"} and not _is_plain(tag, name, value):
                found.append(f"{tag} {name}={value}")
    return found


def _strange_element(tag: str, attributes: dict[str, str]) -> list[str]:
    if tag == "script" and _ASSET.match(attributes.get("src", "")):
        return []
    if tag == "link" and _ASSET.match(attributes.get("href", "")):
        return []
    if tag == "meta" and ("charset" in attributes or attributes.get("name") in {"viewport", "color-scheme"}):
        return []
    return [f"<{tag} {attributes}>"]


def _is_plain(tag: str, name: str, value: str) -> bool:
    if tag == "img":
        return value.startswith("data:image/")
    if name == "action":
        return value.startswith("/") and not value.startswith("//")
    if value.startswith(("https://", "http://", "mailto:", "#", "?")):
        return True
    return value.startswith("/") and not value.startswith("//")
