"""The families of ``bench.big``: a simple index page of thousands of files, a packument of thousands of versions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench import documents, load, peers, proxies
from bench.big import Family, Server
from bench.documents import FULL, SHORT
from bench.fixtures import wheel
from bench.load import Ask, Unusable
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
    with peers.devpi(folder, run.cache) as target:
        yield target


def _versions(count: int) -> list[str]:
    return [f"1.{number}.0" for number in range(count)]


def _upload(target: Target, versions: list[str]) -> None:
    assert target.door is not None
    load.upload(target.door, target.server, [wheel(PROJECT, version) for version in versions], writers=WRITERS)


def _fill_pages(target: Target, _folder: Path, count: int) -> None:
    _upload(target, _versions(count))


def _fill_pypiserver(_target: Target, folder: Path, count: int) -> None:
    """Into its folder, which is all that it has: uploads look at every file that is there already."""
    for version in _versions(count):
        file = wheel(PROJECT, version)
        (folder / "packages" / file.filename).write_bytes(file.body)


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
        "devpi": Server(_devpi, _fill_pages),
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
