"""Hostile XML wherever the format reads some: POMs, metadata, a plugin's descriptor. Nothing outside is ever touched."""

import io
import socket
import threading
import zipfile

import pytest

from registry.errors import Invalid
from registry.format import BadIndex
from registry.formats.maven import FORMAT
from registry.formats.maven.inspection import inspect
from registry.formats.maven.paths import FilePath, parse
from registry.formats.maven.pom import read_pom
from registry.formats.maven.xml_reader import BadXml, read_texts


@pytest.fixture(scope="module")
def canary():
    """A port that nobody may connect to; gives its URL."""
    connected = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        ended = threading.Event()

        def watch() -> None:
            while not ended.is_set():
                try:
                    listener.accept()[0].close()
                    connected.set()
                except TimeoutError:
                    continue

        thread = threading.Thread(target=watch)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        ended.set()
        thread.join()
    assert not connected.is_set()


def attacks(url: str) -> dict[str, bytes]:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return {
        "external entity": f'<!DOCTYPE r [<!ENTITY x SYSTEM "{url}">]><r>&x;</r>'.encode(),
        "file entity": b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>',
        "parameter entity": f'<!DOCTYPE r [<!ENTITY % x SYSTEM "{url}"> %x;]><r/>'.encode(),
        "document type alone": f'<!DOCTYPE r SYSTEM "{url}"><r/>'.encode(),
        "billion laughs": f'<!DOCTYPE r [<!ENTITY l0 "ha">{laughs}]><r>&l9;</r>'.encode(),
        "quadratic": b'<!DOCTYPE r [<!ENTITY a "' + b"a" * 50_000 + b'">]><r>' + b"&a;" * 5_000 + b"</r>",
        "UTF-16 document type": f'<!DOCTYPE r [<!ENTITY x SYSTEM "{url}">]><r>&x;</r>'.encode("utf-16"),
        "UTF-7": b'<?xml version="1.0" encoding="UTF-7"?>+ADwAIQ-DOCTYPE r+AD4-',
        "depth": b"<r>" * 100_000,
        "elements": b"<r>" + b"<a/>" * 200_000 + b"</r>",
        "attribute": b'<r a="' + b"x" * 9_000_000 + b'"/>',
        "size": b"<r>" + b" " * 9_000_000 + b"</r>",
        "cut": b"<r><a>",
        "empty": b"",
        "rubbish": b"\x00\xff\xfe",
        "two roots": b"<r/><r/>",
        "undefined entity": b"<r>&nope;</r>",
    }


@pytest.mark.parametrize("name", list(attacks("")))
def test_hostile_documents_are_refused(name: str, canary: str):
    body = attacks(canary)[name]
    with pytest.raises(Invalid):
        read_pom(io.BytesIO(body))
    with pytest.raises(BadIndex):
        FORMAT.parse_index(FORMAT.key("a:b"), body, "application/xml", "https://index.invalid/")
    with pytest.raises(BadXml):
        list(read_texts(body, {("r",)}, limit_bytes=8_000_000))


@pytest.mark.parametrize("name", list(attacks("")))
def test_a_hostile_plugin_descriptor_makes_no_plugin(name: str, canary: str):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("META-INF/maven/plugin.xml", attacks(canary)[name])
    place = parse("a/b/1/b-1.jar")
    assert isinstance(place, FilePath)
    assert inspect(place, buffer).extra == {}


def test_xinclude_and_stylesheets_are_text(canary: str):
    body = (
        f'<?xml-stylesheet type="text/xsl" href="{canary}"?><project xmlns:xi="http://www.w3.org/2001/XInclude">'
        f'<groupId>a</groupId><artifactId>b</artifactId><version>1</version><xi:include href="{canary}"/>'
        "<description>{{7*7}} ${7*7} #set</description></project>"
    )
    assert read_pom(io.BytesIO(body.encode())).summary == "{{7*7}} ${7*7} #set"


def test_only_what_is_wanted_is_kept():
    body = b"<r><a> one </a><b><a>no</a></b><x:a xmlns:x='y'>two<i>!</i></x:a></r>"
    assert list(read_texts(body, {("r", "a")}, limit_bytes=1000)) == [
        (("r", "a"), "one"),
        (("r", "a"), "two"),
        (("r",), ""),
    ]
