"""Report files of builds as attacks: XML that declares things, links and pipes among the files, names that are paths."""

from __future__ import annotations

import http.server
import io
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hooks.builds import archives, report_files
from hooks.builds.reports import xml_events
from hooks.builds.reports.formats import FORMATS
from hooks.builds.reports.model import Malformed

LAUGHS = '<!DOCTYPE testsuite [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><testsuite><testcase name="&b;"/></testsuite>'


@pytest.fixture
def canary() -> Iterator[tuple[str, list[str]]]:
    """An address, and what was asked of it."""
    asked: list[str] = []

    class Bird(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Bird)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def read(text: str) -> list:
    return list(FORMATS["JUNITXML"].read(io.BytesIO(text.encode())))


def test_B4_entities_of_a_report_are_refused(monkeypatch) -> None:
    with pytest.raises(Malformed, match="document type of its own"):
        read(LAUGHS)
    monkeypatch.setattr(xml_events, "_refuse_declarations", lambda *_: None)
    with pytest.raises(Malformed, match="entities"):
        read(LAUGHS)
    # The control: with both doors open the text is what the entities make of it.
    whole = xml_events._Parser.__init__
    monkeypatch.setattr(
        xml_events._Parser, "__init__", lambda self, **options: whole(self, **options | {"forbid_entities": False})
    )
    assert [case.name for case in read(LAUGHS)] == ["haha"]


def test_B4_a_document_type_of_a_report_is_not_fetched(canary: tuple[str, list[str]]) -> None:
    url, asked = canary
    named = f'<!DOCTYPE report PUBLIC "-//JACOCO//DTD Report 1.1//EN" "{url}/report.dtd"><report/>'
    assert list(FORMATS["JACOCOXML"].read(io.BytesIO(named.encode()))) == []
    for attack in (
        f'<!DOCTYPE x [<!ENTITY % p SYSTEM "{url}/p"> %p;]><testsuite/>',
        f'<!DOCTYPE x [<!ENTITY e SYSTEM "{url}/e">]><testsuite><testcase name="a"><failure>&e;</failure></testcase></testsuite>',
        f'<!DOCTYPE testsuite SYSTEM "{url}/d"><testsuite>&e;</testsuite>',
    ):
        with pytest.raises(Malformed):
            read(attack)
    included = read(
        f'<testsuite xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="{url}/i"/><testcase name="a"/></testsuite>'
    )
    assert [case.name for case in included] == ["a"]
    assert asked == []


def selected(place: Path, *patterns: str, base: str = "") -> set[str]:
    order = {
        "files": list(patterns),
        "base_directory": base,
        "discard_paths": False,
        "exclude_paths": [],
        "variables": {},
    }  # fmt: skip
    return set(archives.select(place, order)[0])


def test_H10_only_regular_files_of_a_build_become_reports(tmp_path: Path, monkeypatch) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (tmp_path / "secret.xml").write_text("<testsuite/>")
    (source / "good.xml").write_text("<testsuite/>")
    (source / "link.xml").symlink_to(tmp_path / "secret.xml")
    (source / "up").symlink_to(tmp_path)
    os.mkfifo(source / "pipe.xml")
    assert selected(source, "**/*.xml", "../*.xml", f"{tmp_path}/*.xml") == {"good.xml"}
    monkeypatch.setattr(archives.stat, "S_ISREG", lambda _mode: True)  # the control
    assert selected(source, "**/*.xml") == {"good.xml", "link.xml", "pipe.xml"}


def test_H10_names_in_what_a_sandbox_sends_open_no_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name in ("../../out.xml", "/etc/entrepot.xml", "a\\..\\b.xml", "x" * 5000):
            archive.writestr(name, "<testsuite/>")
    found = {name: file.read() for name, file in report_files.report_files(body, pytest.fail, lambda: None)}
    assert set(found.values()) == {b"<testsuite/>"}
    assert len(found) == 4
    assert list(tmp_path.rglob("*")) == []
