"""The families of ``bench.big``: a simple index page of thousands of files, a packument of thousands of versions."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench import documents, load, peers, proxies
from bench.big import Family, Server
from bench.documents import FULL, SHORT
from bench.fixtures import wheel
from bench.load import Ask, Unusable
from bench.processes import free_port, running
from bench.results import OURS
from bench.targets import ACCEPT, HTML, JSON, Target, entrepot, get
from bench.workloads import Run

PROJECT = "bench-thousands"
WRITERS = 4


@contextmanager
def _our_pages(folder: Path, _run: Run) -> Iterator[Target]:
    with entrepot(folder) as server:
        yield server.targets()[0]


@contextmanager
def _pypiserver(folder: Path, run: Run) -> Iterator[Target]:
    with peers.pypiserver(folder, run.cache) as target:
        yield target


@contextmanager
def _devpi(folder: Path, run: Run) -> Iterator[Target]:
    """A mirror: uploading so many to devpi-server is too slow for a benchmark."""
    with _stand_in(folder, run) as upstream, peers.devpi(folder / "devpi", run.cache, upstream) as target:
        yield replace(target, door=None)


@contextmanager
def _proxpi(folder: Path, run: Run) -> Iterator[Target]:
    with _stand_in(folder, run) as upstream, proxies.proxpi(folder / "proxpi", run.cache, upstream) as source:
        assert source.server is not None
        yield Target(source.name, source.server, {HTML: source.url, JSON: source.url})


@contextmanager
def _stand_in(folder: Path, run: Run) -> Iterator[str]:
    """An upstream with the finished page, at the same address each time: mirrors remember it."""
    page = folder / "upstream" / "simple" / PROJECT / "index.html"
    kept = folder / "port"
    if not page.exists():
        page.parent.mkdir(parents=True)
        page.write_text(_finished_page(run.plan.thousands))
        kept.write_text(str(free_port()))
    url = f"http://127.0.0.1:{kept.read_text()}/simple/"
    command = [sys.executable, "-m", "http.server", kept.read_text(), "--bind", "127.0.0.1"]
    with running(command, url, folder / "upstream-log", cwd=folder / "upstream"):
        yield url


def _finished_page(count: int) -> str:
    names = [wheel(PROJECT, version).filename for version in _versions(count)]
    digests = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    links = (
        f'<a href="/files/{name}#sha256={digest}" data-requires-python="&gt;=3.8">{name}</a><br/>'
        for name, digest in zip(names, digests, strict=True)
    )
    return "<!DOCTYPE html><html><body>" + "\n".join(links) + "</body></html>\n"


def _versions(count: int) -> list[str]:
    return [f"1.{number}.0" for number in range(count)]


def _upload(target: Target, versions: list[str]) -> None:
    if target.door is None:
        raise Unusable("not offered")
    load.upload(target.door, target.server, [wheel(PROJECT, version) for version in versions], writers=WRITERS)


def _fill_pages(target: Target, _folder: Path, count: int) -> None:
    _upload(target, _versions(count))


def _fill_pypiserver(_target: Target, folder: Path, count: int) -> None:
    """Into its folder, which is all that it has: uploads look at every file that is there already."""
    for version in _versions(count):
        file = wheel(PROJECT, version)
        (folder / "packages" / file.filename).write_bytes(file.body)


def _ask_once(target: Target, _folder: Path, _count: int) -> None:
    """So that what a mirror keeps of its upstream's page is there after a start."""
    get(_first_page(target))


def _first_page(target: Target) -> Ask:
    """As pip asks: a server without the JSON form answers HTML."""
    return Ask(f"{target.pages[HTML]}{PROJECT}/", {**target.headers, "Accept": ACCEPT[JSON], "Accept-Encoding": "gzip"})


def _count_files(body: bytes, kind: str) -> int:
    return len(json.loads(body)["files"]) if "json" in kind else len(re.findall(rb"<a[\s>]", body))


def _page(media: str) -> Callable[[Target, int], Ask]:
    def ask(target: Target, expected: int) -> Ask:
        found = target.page(PROJECT, media)
        answer = get(found)
        count = _count_files(answer.content, answer.headers["Content-Type"])
        if count != expected:
            raise Unusable(f"{count} versions for {expected}")
        return found

    return ask


PAGE = Family(
    "big-page",
    "index page of thousands",
    {
        OURS: Server(_our_pages, _fill_pages),
        "pypiserver": Server(_pypiserver, _fill_pypiserver),
        "devpi": Server(_devpi, _ask_once),
        "proxpi": Server(_proxpi, _ask_once),
    },
    lambda target, version: _upload(target, [version]),
    _first_page,
    _count_files,
    {"json": _page(JSON), "html": _page(HTML)},
)


@contextmanager
def _our_packuments(folder: Path, _run: Run) -> Iterator[Target]:
    with entrepot(folder) as server:
        yield server.targets("npm")[0]


@contextmanager
def _verdaccio(folder: Path, run: Run) -> Iterator[Target]:
    with proxies.verdaccio_alone(folder, run.cache) as target:
        yield target


def _fill_packument(target: Target, _folder: Path, count: int) -> None:
    with ThreadPoolExecutor(WRITERS) as pool:
        for _ in pool.map(lambda version: documents.publish_npm(target, PROJECT, version), _versions(count)):
            pass


def _fill_verdaccio(target: Target, folder: Path, count: int) -> None:
    """One version by its door; the others as it has stored this one: each publish writes the whole document anew."""
    first, *others = _versions(count)
    documents.publish_npm(target, PROJECT, first)
    path = folder / "storage" / PROJECT / "package.json"
    text = path.read_text()
    document = json.loads(text)
    for version in others:
        one = json.loads(text.replace(first, version))
        for key in ("versions", "time", "_attachments"):
            document[key] |= one[key]
    document["dist-tags"]["latest"] = others[-1]
    path.write_text(json.dumps(document, indent="\t"))


def _first_packument(target: Target) -> Ask:
    """As ``npm install`` asks since npm 10."""
    return Ask(target.base + PROJECT, {**target.headers, "Accept": FULL, "Accept-Encoding": "gzip"})


def _packument(media: str) -> Callable[[Target, int], Ask]:
    return lambda target, expected: documents.packument(target, PROJECT, media, expected)


PACKUMENT = Family(
    "big-packument",
    "packument of thousands",
    {OURS: Server(_our_packuments, _fill_packument), "verdaccio": Server(_verdaccio, _fill_verdaccio)},
    lambda target, version: documents.publish_npm(target, PROJECT, version),
    _first_packument,
    lambda body, _kind: len(json.loads(body)["versions"]),
    {"full": _packument(FULL), "short": _packument(SHORT)},
)
FAMILIES = (PAGE, PACKUMENT)
