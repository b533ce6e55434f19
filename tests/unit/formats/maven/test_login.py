"""What login writes for mvn and gradle: ours in front, everybody else's kept, and Maven's own reader takes it."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from registry.errors import Invalid
from registry.format import LoginTarget
from registry.formats.maven.login import TOOLS, set_property, settings_text
from registry.formats.maven.settings_file import EMPTY, set_entry

TARGET = LoginTarget("https://server.invalid/maven/default/dev/", "alice", "ent_0123456789")
NAMESPACE = "{http://maven.apache.org/SETTINGS/1.0.0}"

RICH = """<?xml version="1.0" encoding="ISO-8859-1"?>
<!-- mine: äöü 😀 -->
<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0" xmlns:x="a" x:note="1 > 0">
  <localRepository>/data/m2</localRepository>
  <servers>
    <!-- the old one -->
    <server><id>other</id><username>bob</username><password>{secret=}</password></server>
    <server>
      <id>entrepot</id>
      <username>old</username>
      <password>old</password>
    </server>
    <server><id>third</id></server>
  </servers>
  <mirrors/>\r
  <proxies>
    <proxy><id>entrepot</id><host>proxy</host></proxy>
  </proxies>
  <profiles><profile><id>company</id><properties><a>b</a></properties></profile></profiles>
  <!-- end -->
</settings>
"""


def tree(text: str) -> ET.Element:
    return ET.fromstring(text.replace('encoding="ISO-8859-1"', 'encoding="UTF-8"').encode())


def texts(text: str, path: str) -> list[str | None]:
    names = "/".join(f"{NAMESPACE}{name}" for name in path.split("/"))
    return [element.text for element in tree(text).iterfind(names)]


def test_a_new_file():
    text = settings_text(None, TARGET)
    assert texts(text, "servers/server/password") == ["ent_0123456789"]
    assert texts(text, "mirrors/mirror/mirrorOf") == ["*"]
    assert texts(text, "profiles/profile/repositories/repository/url") == [TARGET.repository_url]
    assert texts(text, "activeProfiles/activeProfile") == ["entrepot"]
    assert settings_text(text, TARGET) == text
    assert settings_text("", TARGET) == settings_text(" \n", TARGET) == text


def test_everything_else_stays():
    text = settings_text(RICH, TARGET)
    assert texts(text, "servers/server/id") == ["entrepot", "other", "third"]
    assert texts(text, "servers/server/password") == ["ent_0123456789", "{secret=}"]
    assert texts(text, "mirrors/mirror/url") == [TARGET.repository_url]
    assert texts(text, "profiles/profile/id") == ["entrepot", "company"]
    assert texts(text, "proxies/proxy/id") == ["entrepot"]
    for kept in ("<!-- mine: äöü 😀 -->", "<!-- the old one -->", "<!-- end -->", 'x:note="1 > 0"', "<mirrors>"):
        assert kept in text
    assert settings_text(text, TARGET) == text
    other = LoginTarget("https://server.invalid/maven/default/prod/", "carol", "ent_9")
    again = settings_text(text, other)
    assert texts(again, "servers/server/username") == ["carol", "bob"]
    assert "maven/default/dev/" not in again


@pytest.mark.parametrize(
    "text",
    [
        "<settings/>",
        "<settings></settings>",
        "<settings><servers/></settings>",
        "<settings><servers></servers><mirrors><mirror><id>a</id></mirror></mirrors></settings>",
        "<settings>\r\n<servers>\r\n</servers>\r\n</settings>\r\n",
        "<settings><servers><server><id>entrepot</id></server></servers></settings>",
        "<settings><activeProfiles><activeProfile>a</activeProfile></activeProfiles></settings>",
        "<settings>\n  <servers><!-- <server><id>entrepot</id></server> --></servers>\n</settings>",
    ],
)
def test_files_of_every_shape(text: str):
    made = settings_text(text, TARGET)
    root = ET.fromstring(made)
    assert [element.text for element in root.iterfind("servers/server/id")] == ["entrepot"]
    assert root.findtext("mirrors/mirror/id") == "entrepot"
    assert root.findtext("activeProfiles/activeProfile") == "entrepot"
    assert settings_text(made, TARGET) == made


@pytest.mark.parametrize("text", ["<settings>", "<project/>", "no xml", "<!DOCTYPE settings><settings/>"])
def test_what_cannot_be_read_is_left_alone(text: str):
    with pytest.raises(Invalid):
        settings_text(text, TARGET)


@pytest.mark.parametrize("token", ["a'b", "a\nb", "a\\b", "$a"])
def test_odd_credentials_are_refused(token: str):
    for tool in TOOLS.values():
        paths = tool.files(Path("/home/a"), {})
        with pytest.raises(Invalid):
            tool.plan(dict.fromkeys(paths), LoginTarget(TARGET.repository_url, "alice", token))


def test_markup_in_a_name_is_text():
    text = settings_text(None, LoginTarget(TARGET.repository_url, "a<b>&c", "ent_1"))
    assert texts(text, "servers/server/username") == ["a<b>&c"]


def test_an_entry_goes_in_front():
    text = set_entry(EMPTY, "mirrors", "<mirror><id>a</id></mirror>", "a")
    assert texts(set_entry(text, "mirrors", "<mirror><id>b</id></mirror>", "b"), "mirrors/mirror/id") == ["b", "a"]


def test_gradle_s_files():
    tool = TOOLS["gradle"]
    script, properties = tool.files(Path("/home/a"), {})
    assert (script, properties) == (
        Path("/home/a/.gradle/init.d/entrepot.gradle"),
        Path("/home/a/.gradle/gradle.properties"),
    )
    assert tool.files(Path("/home/a"), {"GRADLE_USER_HOME": "/g"})[1] == Path("/g/gradle.properties")
    planned = tool.plan({script: None, properties: "org.gradle.daemon=false\nentrepotUser = old\n# end"}, TARGET)
    assert planned[properties] == (
        "org.gradle.daemon=false\nentrepotUser=alice\n# end\nentrepotPassword=ent_0123456789\n"
    )
    assert TARGET.repository_url in planned[script]
    assert TARGET.token not in planned[script]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "entrepotUser=v\n"),
        ("a=1\\\n  entrepotUser=no\n", "a=1\\\n  entrepotUser=no\nentrepotUser=v\n"),
        ("  entrepotUser : x\\\n  y\nentrepotUserName=z", "entrepotUser=v\nentrepotUserName=z\n"),
        ("entrepotUser\nentrepotUser=twice\n#entrepotUser=no\\\nb=2", "entrepotUser=v\n#entrepotUser=no\\\nb=2\n"),
        ("a=b\\\\\nentrepotUser=x\n", "a=b\\\\\nentrepotUser=v\n"),
    ],
)
def test_properties_stay(text: str, expected: str):
    assert set_property(text, "entrepotUser", "v") == expected


def test_notes_say_how_to_publish():
    assert any("altDeploymentRepository" in note for note in TOOLS["mvn"].notes(TARGET))
    assert any("clear" in note for note in TOOLS["mvn"].notes(LoginTarget("http://s.invalid/", "a", "b")))
