"""A package's README as HTML that can neither act nor fetch: a stranger wrote it, and it shows up beside a session.

Two passes: readme_renderer renders (without raw HTML or file inclusion in reStructuredText) and sanitises; the second
pass of ours prefixes ids (``id=csrf_token`` would shadow ours), drops classes (ours could be used to cover the page),
keeps absolute web links only, and takes away images that would tell others who reads.
"""

from __future__ import annotations

import io
import re
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import lru_cache

import nh3
from markupsafe import Markup

LARGEST_RENDERED_BYTES = 256 * 1024
# Whatever such a text holds, it renders in less than a second. Larger ones can take minutes (60 000 nested quotes: 80 s;
# docutils is quadratic in several constructs), so that they are rendered where the kernel ends it.
LARGEST_TRUSTED_BYTES = 16 * 1024
CHILD_CPU_SECONDS = 3
CHILD_MEMORY_BYTES = 512 * 1024 * 1024
CHILD_WALL_SECONDS = 10
_children = threading.BoundedSemaphore(2)

ID_PREFIX = "user-content-"
# fmt: off
_TAGS = {
    "a", "abbr", "b", "blockquote", "br", "caption", "cite", "code", "dd", "del", "details", "div", "dl", "dt", "em",
    "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd", "li", "ol", "p", "pre", "q", "s", "samp",
    "span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "tt", "ul",
    "var",
}
# fmt: on
_ATTRIBUTES = {
    "*": {"id"},
    "a": {"href", "title", "id"},
    "img": {"src", "alt", "title", "width", "height", "id"},
    "ol": {"start", "id"},
    "td": {"colspan", "rowspan", "id"},
    "th": {"colspan", "rowspan", "scope", "id"},
}
_IMAGE = re.compile(r"data:image/(png|gif|jpeg|webp);base64,[A-Za-z0-9+/=\s]+\Z")
# What is left of the renderers' heading anchors: links nobody can see, but everybody has to tab through.
_EMPTY_LINK = re.compile(r'<a(?: [a-z]+="[^"<>]*")*></a>')
_HEADING = re.compile(r"(</?h)([1-6])(?=[ >])")
_NUMBER = re.compile(r"[0-9]{1,4}\Z")
_NUMBERS = {"width", "height", "start", "colspan", "rowspan"}


def render_readme(text: str, content_type: str) -> Markup:
    """``text`` as safe HTML. ``content_type`` as in core metadata (``text/markdown; variant=GFM``); empty means rST.

    What is too large, unknown or does not render is shown as plain text.
    """
    if not text.strip():
        return Markup()
    kind = content_type.partition(";")[0].strip().lower() or "text/x-rst"
    size_bytes = len(text.encode("utf-8", "replace"))
    if size_bytes > LARGEST_RENDERED_BYTES or kind not in _RENDERERS:
        return _plain(text)
    if size_bytes <= LARGEST_TRUSTED_BYTES:
        return _render(text, kind)
    if not _children.acquire(timeout=CHILD_WALL_SECONDS):
        return _plain(text)
    try:
        return _render_in_child(text, kind)
    finally:
        _children.release()


@lru_cache(maxsize=256)
def _render(text: str, kind: str) -> Markup:
    rendered = _RENDERERS[kind](text)
    return _plain(text) if rendered is None else _clean(rendered)


@lru_cache(maxsize=64)
def _render_in_child(text: str, kind: str) -> Markup:
    # -P: the folder of this file holds modules of ours, not the interpreter's. The child gets none of our environment.
    command = [sys.executable, "-P", __file__, kind]
    try:
        child = subprocess.run(
            command,
            input=text.encode("utf-8", "replace"),
            capture_output=True,
            timeout=CHILD_WALL_SECONDS,
            check=True,
            env={"PYTHONUTF8": "1"},
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return _plain(text)
    return Markup(child.stdout.decode())  # noqa: S704  (cleaned there, by the same code)


def _main() -> None:
    """Render stdin, a text of the kind that the first argument names, to stdout; under limits, alone in a process."""
    import readme_renderer.markdown
    import readme_renderer.rst  # noqa: F401  (before the limits, which are for the text)

    resource.setrlimit(resource.RLIMIT_CPU, (CHILD_CPU_SECONDS, CHILD_CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (CHILD_MEMORY_BYTES, CHILD_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    rendered = _render(sys.stdin.buffer.read().decode("utf-8", "replace"), sys.argv[1])
    sys.stdout.buffer.write(str(rendered).encode())


# Imported when the first README needs them: docutils is a sixteenth of all that a server imports at its start.
def _rst(text: str) -> str | None:
    # The stream takes the warnings docutils would print; an author's mistakes are no matter for our log.
    try:
        from readme_renderer import rst

        return rst.render(text, stream=io.StringIO())
    except RecursionError:
        return None  # some hundred nested quotes or lists are enough


def _markdown(text: str) -> str | None:
    from readme_renderer import markdown

    return markdown.render(text, variant="GFM")


_RENDERERS: dict[str, Callable[[str], str | None]] = {"text/markdown": _markdown, "text/x-rst": _rst}


def _plain(text: str) -> Markup:
    return Markup('<pre class="plain">{}</pre>').format(text[:LARGEST_RENDERED_BYTES])


def _clean(rendered: str) -> Markup:
    cleaned = nh3.clean(
        rendered,
        tags=_TAGS,
        clean_content_tags={"script", "style", "title", "textarea", "noscript", "iframe", "svg", "math"},
        attributes=_ATTRIBUTES,
        attribute_filter=_attribute,
        url_schemes={"http", "https", "mailto", "data"},
        link_rel="nofollow noopener ugc",
        # They scroll when they are wide, and what scrolls must be reachable with the keyboard.
        set_tag_attribute_values={"pre": {"tabindex": "0"}, "table": {"tabindex": "0"}},
    )
    # Two levels down: the page has its own heading, and this one stands under "Description".
    nested = _HEADING.sub(lambda match: f"{match[1]}{min(6, int(match[2]) + 2)}", _EMPTY_LINK.sub("", cleaned))
    return Markup(nested)  # noqa: S704  (the one place that trusts text: nh3 has just cleaned it)


def _attribute(tag: str, name: str, value: str) -> str | None:
    if name == "id":
        return _prefixed(value)
    if name == "href":
        if value.startswith("#"):
            return f"#{_prefixed(value[1:])}"
        return value if value.lower().startswith(("https://", "http://", "mailto:")) else None
    if tag == "img" and name == "src":
        return value if _IMAGE.match(value) else None
    if name in _NUMBERS:
        return value if _NUMBER.match(value) else None
    return value


def _prefixed(identifier: str) -> str:
    return identifier if identifier.startswith(ID_PREFIX) else ID_PREFIX + identifier


if __name__ == "__main__":
    _main()
