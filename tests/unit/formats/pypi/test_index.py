"""Index pages: reading an upstream's (PEP 503, 691 and what follows) and writing our own."""

import contextlib
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.format import BadIndex, FileLink, Listing
from registry.formats.pypi import reading, writing
from registry.formats.pypi.negotiation import HTML_TYPE, JSON_TYPE, PLAIN_TYPE, negotiate
from registry.formats.pypi.writing import ProjectView, ViewFile
from registry.names import PackageName

DEMO = PackageName("demo")
URL = "https://index.invalid/simple/demo/"
SHA = "0a" * 32
OTHER = "1b" * 32


def parse(body: str | bytes, content_type: str = "", url: str = URL) -> Listing:
    return reading.parse(DEMO, body if isinstance(body, bytes) else body.encode(), content_type, url)


def one_json(**entry: object) -> FileLink | None:
    whole = {"filename": "demo-1.0.tar.gz", "url": "demo-1.0.tar.gz", "hashes": {"sha256": SHA}, **entry}
    page = {
        "meta": {"api-version": "1.1"},
        "name": "demo",
        "files": [{key: value for key, value in whole.items() if value is not ...}],
    }
    files = parse(json.dumps(page)).files
    return files[0] if files else None


def one_html(anchor: str, head: str = "") -> FileLink | None:
    files = parse(f"<!DOCTYPE html><html><head>{head}</head><body>{anchor}</body></html>").files
    return files[0] if files else None


# Reading JSON.


def test_a_json_page() -> None:
    link = one_json(**{
        "url": "../../files/demo-1.0.tar.gz#sha256=ff", "requires-python": ">=3.8", "size": 12, "upload-time": "2026-01-02T03:04:05.678901Z",
        "yanked": "broken", "core-metadata": {"sha256": OTHER}, "provenance": "https://index.invalid/provenance",
        "hashes": {"sha256": SHA.upper(), "md5": "x", "evil": "00"},
    })  # fmt: skip
    assert link == FileLink(
        filename="demo-1.0.tar.gz",
        version="1.0",
        url="https://index.invalid/files/demo-1.0.tar.gz",
        hashes={"sha256": SHA},
        size_bytes=12,
        upload_time=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        extra={
            "requires_python": ">=3.8",
            "yanked": "broken",
            "core_metadata": {"sha256": OTHER},
            "provenance": "https://index.invalid/provenance",
        },
    )


@pytest.mark.parametrize(
    ("key", "said", "read"),
    [
        ("yanked", ..., False), ("yanked", False, False), ("yanked", True, True), ("yanked", "", False), ("yanked", "why", "why"),
        ("core-metadata", ..., False), ("core-metadata", False, False), ("core-metadata", True, True),
        ("core-metadata", {"sha256": SHA}, {"sha256": SHA}), ("core-metadata", {"sha256": "short"}, True),
        ("data-dist-info-metadata", {"sha256": SHA}, {"sha256": SHA}), ("dist-info-metadata", True, True),
        ("requires-python", None, None), ("requires-python", " ", None), ("requires-python", 3, None), ("requires-python", "<4", "<4"),
        ("provenance", None, None), ("provenance", "javascript:alert(1)", None),
    ],
)  # fmt: skip
def test_json_keys(key: str, said: object, read: object) -> None:
    link = one_json(**{key: said})
    assert link is not None
    name = "core_metadata" if "info" in key or "core" in key else key.replace("-", "_")
    assert link.extra[name] == read


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.1Z", datetime(2026, 1, 2, 3, 4, 5, 100000, tzinfo=UTC)),
        ("2026-01-02T03:04:05.123456789Z", datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
        ("2026-01-02T03:04:05+02:00", datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)),
        ("2026-01-02", None),
        ("2026-01-02T03:04:05", None),
        ("2026-13-02T03:04:05Z", None),
        ("0001-01-01T00:00:00+23:00", None),
        (1767323045, None),
    ],
)
def test_upload_times(said: object, read: datetime | None) -> None:
    link = one_json(**{"upload-time": said})
    assert link is not None
    assert link.upload_time == read


@pytest.mark.parametrize(
    ("said", "read"), [(0, 0), (7, 7), (-1, None), (True, None), ("7", None), (None, None), (1.5, None)]
)
def test_sizes(said: object, read: int | None) -> None:
    link = one_json(size=said)
    assert link is not None
    assert link.size_bytes == read


@pytest.mark.parametrize(
    "entry",
    [
        {"filename": "evil-1.0.tar.gz"}, {"filename": "../demo-1.0.tar.gz"}, {"filename": "demo-1.0.exe"}, {"filename": 7},
        {"filename": ...}, {"url": ...}, {"url": "javascript:alert(1)"}, {"url": "file:///etc/passwd"}, {"url": "https://["},
        {"url": "http:///demo-1.0.tar.gz"}, {"url": "data:,x"},
    ],
)  # fmt: skip
def test_entries_that_nobody_may_follow_are_left_out(entry: dict[str, object]) -> None:
    assert one_json(**entry) is None


@pytest.mark.parametrize(
    "body",
    [
        "{", "{}", '{"files": 1}', '{"meta": {"api-version": "2.0"}, "name": "demo", "files": []}', '{"name": "demo", "files": []}',
        '{"meta": {"api-version": 1}, "name": "demo", "files": []}', '{"meta": {"api-version": "1.0"}, "name": "evil", "files": []}',
        '{"meta": {"api-version": "1.0"}, "files": []}', '{"meta": [], "name": "demo", "files": []}', '{"a":' * 100_000,
        '{"a": ' + "9" * 10_000 + "}", "", "hello", "null", "\xff",
    ],
)  # fmt: skip
def test_pages_that_cannot_be_used(body: str) -> None:
    with pytest.raises(BadIndex):
        parse(body)


def test_the_type_is_sniffed_because_proxies_get_it_wrong() -> None:
    page = '\ufeff {"meta": {"api-version": "1.0"}, "name": "Demo", "files": []}'
    assert list(parse(page, "text/html").files) == []
    assert len(parse('<a href="demo-1.0.tar.gz">x</a>', JSON_TYPE).files) == 1
    with pytest.raises(BadIndex):
        parse("[]", JSON_TYPE)


@pytest.mark.parametrize(
    ("status", "read", "files"),
    [
        ({"status": "archived", "reason": "old"}, ("archived", "old"), 1),
        ({"state": "deprecated"}, ("deprecated", None), 1),
        ({"status": "quarantined"}, ("quarantined", None), 0),
        ({"status": "unheard of", "reason": "x"}, (None, None), 1),
        ({}, (None, None), 1),
        (None, (None, None), 1),
    ],
)
def test_project_status_pep_792(status: object, read: tuple[str | None, str | None], files: int) -> None:
    page = {
        "meta": {"api-version": "1.4"}, "name": "demo", "project-status": status,
        "files": [{"filename": "demo-1.0.tar.gz", "url": "x", "hashes": {}}],
    }  # fmt: skip
    listing = parse(json.dumps(page))
    assert ((listing.status, listing.status_reason), len(listing.files)) == (read, files)


def test_the_first_of_several_files_of_one_name_counts() -> None:
    listing = parse('<a href="/a/demo-1.0.tar.gz"></a><a href="/b/demo-1.0.tar.gz"></a>')
    assert [link.url for link in listing.files] == ["https://index.invalid/a/demo-1.0.tar.gz"]


# Reading HTML.


def test_an_html_link_with_everything() -> None:
    link = one_html(
        f'<A  HREF="../../files/demo-1.0%2Blocal-py3-none-any.whl#sha256={SHA}" data-requires-python="&gt;=3.8,&lt;4"\n'
        f" data-yanked='&quot;bad&quot;' data-core-metadata=\"sha256={OTHER}\" data-provenance=/p>anything</A>"
    )
    assert link == FileLink(
        filename="demo-1.0+local-py3-none-any.whl",
        version="1.0+local",
        url="https://index.invalid/files/demo-1.0%2Blocal-py3-none-any.whl",
        hashes={"sha256": SHA},
        extra={
            "requires_python": ">=3.8,<4",
            "yanked": '"bad"',
            "core_metadata": {"sha256": OTHER},
            "provenance": "https://index.invalid/p",
        },
    )


@pytest.mark.parametrize(
    ("attributes", "key", "read"),
    [
        ("", "yanked", False), ("data-yanked", "yanked", True), ('data-yanked=""', "yanked", True), ("data-yanked=why", "yanked", "why"),
        ("", "core_metadata", False), ("data-core-metadata=true", "core_metadata", True),
        (f"data-dist-info-metadata=sha256={SHA}", "core_metadata", {"sha256": SHA}),
        (f"data-core-metadata=sha256={SHA} data-dist-info-metadata=true", "core_metadata", {"sha256": SHA}),
        ("data-requires-python='>=3'", "requires_python", ">=3"), ("data-requires-python=''", "requires_python", None),
        ("/ data-yanked / ", "yanked", True), ("data-yanked=a data-yanked=b", "yanked", "a"),
    ],
)  # fmt: skip
def test_html_attributes(attributes: str, key: str, read: object) -> None:
    link = one_html(f'<a href="demo-1.0.tar.gz" {attributes}>x</a>')
    assert link is not None
    assert link.extra[key] == read


@pytest.mark.parametrize(
    ("head", "url"),
    [
        ("", "https://index.invalid/simple/demo/demo-1.0.tar.gz"),
        ('<base href="/other/">', "https://index.invalid/other/demo-1.0.tar.gz"),
        ('<base href="https://files.invalid/x/"><base href="/no/">', "https://files.invalid/x/demo-1.0.tar.gz"),
        ('<base target="_blank">', "https://index.invalid/simple/demo/demo-1.0.tar.gz"),
        ('<base href="javascript:">', "https://index.invalid/simple/demo/demo-1.0.tar.gz"),
    ],
)
def test_base_href(head: str, url: str) -> None:
    link = one_html('<a href="demo-1.0.tar.gz">x</a>', head)
    assert link is not None
    assert link.url == url


@pytest.mark.parametrize(
    "anchor",
    [
        '<!-- <a href="demo-1.0.tar.gz">x</a> -->', '<script>"<a href=demo-1.0.tar.gz>"</script>',
        '<title><a href="demo-1.0.tar.gz"></title>', "<a>demo-1.0.tar.gz</a>", '<area href="demo-1.0.tar.gz">',
        '<a href="demo-1.0.tar.gz', '<a href="demo-1.0.tar.gz>x</a>', '<a href="javascript:demo-1.0.tar.gz">x</a>',
        '<a href="">x</a>', "< a href=demo-1.0.tar.gz>", "<!-- <a href=demo-1.0.tar.gz>",
    ],
)  # fmt: skip
def test_what_is_no_link(anchor: str) -> None:
    assert one_html(anchor) is None
    assert one_html('<a href="demo-1.0.tar.gz">x</a>' + anchor) is not None


def test_html_meta() -> None:
    head = '<meta name="pypi:project-status" content="archived"><META NAME="pypi:project-status-reason" CONTENT="a &amp; b">'
    listing = parse(f"<html>{head}</html>")
    assert (listing.status, listing.status_reason) == ("archived", "a & b")
    with pytest.raises(BadIndex, match=r"2\.0"):
        parse('<meta name="pypi:repository-version" content="2.0"><a href="demo-1.0.tar.gz">')


HOSTILE = {
    "open tags": "<a ",
    "open comments": "<!--",
    "open quotations": '<a x="',
    "mixed quotations": "<a x='a<a x=\"",
    "declarations": "<!",
    "instructions": "<?",
    "open texts": "<script><",
    "slashes": "<a/",
    "blanks": "<a" + " " * 50,
    "equals": "<a =",
    "references": "<a x=&",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_html_takes_linear_time(case: str) -> None:
    """A megabyte in at most ten seconds of CPU: it takes hundredths, and a quadratic reader takes hours."""
    code = (
        "import resource, sys\nfrom registry.format import BadIndex\nfrom registry.formats.pypi import reading\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (10, 10))\n"
        "piece = sys.argv[1]\n"
        "try:\n    reading.parse('demo', b'<' + (piece * (1_000_000 // len(piece))).encode(), '', 'https://index.invalid/')\n"
        "except BadIndex:\n    pass\n"
    )
    subprocess.run([sys.executable, "-c", code, HOSTILE[case]], check=True)


@given(st.text(alphabet="<>a/!-= \"'&;\nhref#", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadIndex):
        parse(text)


# Writing.

FILES = (
    ViewFile(
        filename="demo-1.0+cu1-py3-none-any.whl",
        href="../../files/demo/demo-1.0+cu1-py3-none-any.whl",
        hashes={"sha256": SHA},
        size_bytes=1444,
        upload_time=datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
        requires_python=">=3.8,<4",
        yanked='"<bad>"',
        core_metadata={"sha256": OTHER},
        provenance="https://here.invalid/p?a=1&b=2",
    ),
    ViewFile("demo-2.0.tar.gz", "../../files/demo/demo-2.0.tar.gz", {"sha256": OTHER}, yanked=True),
)
VIEW = ProjectView(
    "demo", FILES, versions=("1.0+cu1", "2.0", "3.0"), status="archived", status_reason="a & b", last_serial=17
)


def test_the_json_page_is_api_version_1_4() -> None:
    metadata = {"sha256": OTHER}
    assert json.loads(writing.render_json(VIEW)) == {
        "meta": {"api-version": "1.4", "_last-serial": 17},
        "name": "demo",
        "project-status": {"status": "archived", "reason": "a & b"},
        "versions": ["1.0+cu1", "2.0", "3.0"],
        "files": [
            {
                "filename": "demo-1.0+cu1-py3-none-any.whl",
                "url": "../../files/demo/demo-1.0%2Bcu1-py3-none-any.whl",
                "hashes": {"sha256": SHA},
                "requires-python": ">=3.8,<4",
                "size": 1444,
                "upload-time": "2026-01-01T00:00:00.000000Z",
                "yanked": '"<bad>"',
                "core-metadata": metadata,
                "data-dist-info-metadata": metadata,
                "provenance": "https://here.invalid/p?a=1&b=2",
            },
            {
                "filename": "demo-2.0.tar.gz",
                "url": "../../files/demo/demo-2.0.tar.gz",
                "hashes": {"sha256": OTHER},
                "requires-python": None,
                "yanked": True,
                "core-metadata": False,
                "data-dist-info-metadata": False,
                "provenance": None,
            },
        ],
    }


def test_the_html_page() -> None:
    page = writing.render_html(VIEW).decode()
    assert '<meta name="pypi:repository-version" content="1.4">' in page
    assert '<meta name="pypi:project-status" content="archived">' in page
    assert '<meta name="pypi:project-status-reason" content="a &amp; b">' in page
    assert (
        f'<a href="../../files/demo/demo-1.0%2Bcu1-py3-none-any.whl#sha256={SHA}" data-requires-python="&gt;=3.8,&lt;4" '
        f'data-yanked="&quot;&lt;bad&gt;&quot;" data-core-metadata="sha256={OTHER}" data-dist-info-metadata="sha256={OTHER}" '
        'data-provenance="https://here.invalid/p?a=1&amp;b=2">demo-1.0+cu1-py3-none-any.whl</a>'
    ) in page
    assert f'<a href="../../files/demo/demo-2.0.tar.gz#sha256={OTHER}" data-yanked="">demo-2.0.tar.gz</a>' in page


def test_without_status_a_project_is_active() -> None:
    view = ProjectView("demo", ())
    assert json.loads(writing.render_json(view))["project-status"] == {"status": "active"}
    assert 'content="active"' in writing.render_html(view).decode()


def test_the_list_of_projects() -> None:
    names = ["Foo.Bar", "demo"]
    assert json.loads(writing.render_list_json(names, 3)) == {
        "meta": {"api-version": "1.4", "_last-serial": 3},
        "projects": [{"name": "Foo.Bar"}, {"name": "demo"}],
    }
    page = writing.render_list_html(names).decode()
    assert '<a href="foo-bar/">Foo.Bar</a>' in page
    assert '<a href="demo/">demo</a>' in page


def test_file_href_escapes_what_clients_misread() -> None:
    assert writing.file_href("../../files/", "demo-1!1.0+a.whl") == "../../files/demo-1%211.0%2Ba.whl"


HASH = st.binary(min_size=32, max_size=32).map(bytes.hex)
TEXT = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
VIEW_FILES = st.builds(
    lambda version, href, **fields: ViewFile(
        filename=f"demo-{version}.tar.gz", href=f"{href}/demo-{version}.tar.gz", **fields
    ),
    version=st.from_regex(r"[1-9]\.[1-9](\+[a-z]{1,3})?", fullmatch=True),
    href=st.sampled_from(["../../files", "https://files.invalid/x", "."]),
    hashes=st.fixed_dictionaries({"sha256": HASH}),
    size_bytes=st.none() | st.integers(0, 2**40),
    upload_time=st.none() | st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    requires_python=st.none() | TEXT.filter(lambda text: text.strip() == text),
    yanked=st.booleans() | TEXT,
    core_metadata=st.booleans() | st.fixed_dictionaries({"sha256": HASH}),
    provenance=st.none() | st.just("https://here.invalid/p"),
)
VIEWS = st.builds(
    lambda files, **fields: ProjectView("demo", tuple({file.filename: file for file in files}.values()), **fields),
    files=st.lists(VIEW_FILES, max_size=5),
    status=st.sampled_from([None, "active", "archived", "deprecated"]),
    status_reason=st.none() | TEXT,
)


@given(VIEWS)
def test_what_is_written_reads_back(view: ProjectView) -> None:
    from_json, from_html = parse(writing.render_json(view), JSON_TYPE), parse(writing.render_html(view), PLAIN_TYPE)
    assert from_json.status == from_html.status == (view.status or "active")
    assert from_json.status_reason == from_html.status_reason == view.status_reason
    for link, file in zip(from_json.files, view.files, strict=True):
        assert (link.filename, link.hashes) == (file.filename, file.hashes)
        assert (link.size_bytes, link.upload_time) == (file.size_bytes, file.upload_time)
        assert {**link.extra} == {
            "requires_python": file.requires_python, "yanked": file.yanked, "core_metadata": file.core_metadata, "provenance": file.provenance,
        }  # fmt: skip
    # HTML has no place for sizes and times; all else is the same.
    assert [(link.filename, link.url, link.hashes, link.extra) for link in from_html.files] == [
        (link.filename, link.url, link.hashes, link.extra) for link in from_json.files
    ]


@given(VIEWS)
def test_another_html_reader_sees_the_same_links(view: ProjectView) -> None:
    class Anchors(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[tuple[str, dict[str, str | None]]] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "a":
                self.found.append(("", dict(attrs)))

        def handle_data(self, data: str) -> None:
            if self.found and not self.found[-1][0] and data.strip():
                self.found[-1] = (data, self.found[-1][1])

    reader = Anchors()
    reader.feed(writing.render_html(view).decode())
    assert [text for text, _ in reader.found] == [file.filename for file in view.files]
    for (_, attributes), file in zip(reader.found, view.files, strict=True):
        assert attributes["href"] == f"{file.href}#sha256={file.hashes['sha256']}".replace("+", "%2B")
        assert attributes.get("data-requires-python") == file.requires_python
        assert attributes.get("data-yanked", False) == ("" if file.yanked is True else file.yanked)


# Choosing (PEP 691, RFC 9110).


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, PLAIN_TYPE),
        ("", PLAIN_TYPE),
        ("*/*", PLAIN_TYPE),
        ("text/html", PLAIN_TYPE),
        ("text/*", PLAIN_TYPE),
        ("application/*", JSON_TYPE),
        (JSON_TYPE, JSON_TYPE),
        (HTML_TYPE, HTML_TYPE),
        # pip, uv, poetry, hatch, a browser
        (f"{JSON_TYPE}, {HTML_TYPE}; q=0.1, text/html; q=0.01", JSON_TYPE),
        (f"{JSON_TYPE}, {HTML_TYPE};q=0.2, text/html;q=0.01", JSON_TYPE),
        (f"{JSON_TYPE}, */*;q=0.1", JSON_TYPE),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", PLAIN_TYPE),
        (f"{JSON_TYPE}, */*", JSON_TYPE),
        (f"text/html, {JSON_TYPE};q=0.5", PLAIN_TYPE),
        ("application/vnd.pypi.simple.latest+json", JSON_TYPE),
        ("application/vnd.pypi.simple.latest+html;q=0.9", HTML_TYPE),
        (JSON_TYPE.upper(), JSON_TYPE),
        (f"{JSON_TYPE};q=0, */*", PLAIN_TYPE),
        ("text/html;q=0, */*", HTML_TYPE),
        ("text/html;charset=utf-8;q=0.4", PLAIN_TYPE),
        ("application/json", None),
        ("image/png", None),
        ("application/vnd.pypi.simple.v2+json", None),
        (f"{JSON_TYPE};q=0", None),
        (f"{JSON_TYPE};q=often", None),
        (",,;q=1,", PLAIN_TYPE),
        ("a/b," * 5000 + JSON_TYPE, None),
    ],
)
def test_negotiation(accept: str | None, chosen: str | None) -> None:
    assert negotiate(accept) == chosen


@pytest.mark.parametrize(
    ("parameter", "chosen"),
    [
        (JSON_TYPE, JSON_TYPE),
        (JSON_TYPE.replace("+", " "), JSON_TYPE),
        ("application/vnd.pypi.simple.latest+html", HTML_TYPE),
        ("text/html", PLAIN_TYPE),
        ("application/json", None),
        ("", HTML_TYPE),
        (None, HTML_TYPE),
    ],
)
def test_the_format_parameter_wins(parameter: str | None, chosen: str | None) -> None:
    assert negotiate(HTML_TYPE, parameter) == chosen
