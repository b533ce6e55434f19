"""appspec.yml for servers: the grammar, every fault with its line, and where it means something else to CodeDeploy's agent."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.deployments.acl import AclEntry
from hooks.deployments.appspec import parse_appspec
from hooks.deployments.appspec_model import AppSpec, FileExistsBehavior, FileMapping, HookScript, SecurityContext
from registry.errors import InvalidDocument

HEAD = "version: 0.0\nos: linux\n"


def parsed(text: str) -> AppSpec:
    return parse_appspec(HEAD + text)


def faults(text: str, head: str = HEAD) -> list[str]:
    with pytest.raises(InvalidDocument) as caught:
        parse_appspec(head + text)
    return caught.value.faults


def permission(text: str) -> AppSpec:
    return parsed(f"files: [{{source: /, destination: /opt/app}}]\npermissions:\n  - object: /opt/app\n    {text}")


def test_a_whole_document():
    spec = parsed(
        """\
files:
  - source: /
    destination: /opt/app/
  - source: /conf/app.ini
    destination: /etc//app
file_exists_behavior: OVERWRITE
permissions:
  - object: /opt/app/
    pattern: "*.sh"
    except: [a.sh]
    type: [file]
    owner: app
    group: 1000
    mode: "4755"
    acls: ["u:web:rx", "m::rx", "d:g::r"]
    context: {name: system_u, type: httpd_sys_content_t, range: "s0-s1:c0.c3,c7"}
hooks:
  ApplicationStop:
    - location: /scripts/stop.sh
  ApplicationStart:
    - location: " scripts/start.sh "
      timeout: 30
      runas: app
    - {location: ./scripts/again.sh, timeout: "60", sudo: true}
"""
    )
    assert spec.files == (FileMapping("", "/opt/app", 4), FileMapping("conf/app.ini", "/etc/app", 6))
    assert spec.file_exists_behavior is FileExistsBehavior.OVERWRITE
    (entry,) = spec.permissions
    assert (entry.object, entry.pattern, entry.excepted) == ("/opt/app", "*.sh", ("a.sh",))
    assert (entry.files, entry.directories, entry.owner, entry.group) == (True, False, "app", "1000")
    assert entry.mode == 0o4755
    assert entry.acl == (
        AclEntry("user", "web", 5), AclEntry("mask", "", 5), AclEntry("group", "", 4, is_default=True),
    )  # fmt: skip
    assert entry.context == SecurityContext("httpd_sys_content_t", "system_u", "s0-s1:c0.c3,c7")
    assert spec.hooks == {
        "ApplicationStop": (HookScript("scripts/stop.sh", line=21),),
        "ApplicationStart": (
            HookScript("scripts/start.sh", 30, "app", line=23), HookScript("scripts/again.sh", 60, "", True, 26),
        ),
    }  # fmt: skip
    assert spec.warnings == ()


def test_all_faults_at_once_with_their_lines():
    assert faults(
        """\
files:
  - source: ../secret
    destination: /opt/app
  - source: a
    destination: opt/app
  - destination: C:\\app
  - source: a
file_exists_behavior: overwrite
permissions:
  - owner: app
  - object: opt
    mode: 0888
    type: [socket]
    acls: ["u::rwx", "x:y:z:q", "u:a:r", "u:a:w", "o:b:r"]
    context: {role: r, user: u}
hooks:
  ApplicationStart:
    - timeout: 0
    - location: a/../../b
    - {location: ok, runas: "a b", timeout: 1h}
  BeforeInstall: scripts/x.sh
"""
    ) == [
        "line 4: files[0].source '../secret' has to be a path within the bundle, without '..'",
        "line 7: files[1].destination 'opt/app' has to be an absolute path; it begins with /",
        "line 8: files[2].destination 'C:\\\\app' is a path of Windows; os is linux",
        "line 8: files[2].source is missing",
        "line 9: files[3].destination is missing",
        "line 10: file_exists_behavior 'overwrite' has to be DISALLOW, OVERWRITE or RETAIN, in upper case",
        "line 12: permissions[0].object is missing",
        "line 13: permissions[1].object 'opt' has to be an absolute path; it begins with /",
        "line 14: permissions[1].mode '0888' has to be one to four octal digits, like 0644 or 755",
        "line 15: permissions[1].type 'socket' has to be file or directory",
        "line 16: permissions[1].acls[0] 'u::rwx': the owner's, the group's and the others' rights are set by mode",
        "line 16: permissions[1].acls[1] 'x:y:z:q': it is [default:][user|group|mask|other]:[name]:rwx",
        "line 16: permissions[1].acls[3] 'u:a:w' stands there twice",
        "line 16: permissions[1].acls[4] 'o:b:r': other takes no name",
        "line 17: permissions[1].context.role: roles are not supported",
        "line 17: permissions[1].context.type is missing",
        "line 20: hooks.ApplicationStart[0].location is missing: which script of the bundle is it?",
        "line 20: hooks.ApplicationStart[0].timeout '0' has to be a whole number of seconds, 1 or more",
        "line 21: hooks.ApplicationStart[1].location 'a/../../b' has to be a path within the bundle, without '..'",
        "line 22: hooks.ApplicationStart[2].runas: 'a b' is not the name of a user",
        "line 22: hooks.ApplicationStart[2].timeout '1h' has to be a whole number of seconds, 1 or more",
        "line 23: hooks.BeforeInstall has to be a list; each entry begins with '- '",
    ]


@pytest.mark.parametrize("version", ["0.0", '"0.0"', "0", "0.00"])
def test_versions_that_are_meant(version: str):
    spec = parse_appspec(f"version: {version}\nos: linux\nfiles:\nhooks:\n")
    assert any("without quotes" in warning for warning in spec.warnings) is (version != "0.0")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("version: 1.0\nos: linux\n", "version '1.0' is unknown"),
        ("os: linux\nhooks:\n", "version is missing"),
        ("version: 0.0\nhooks:\n", "os is missing"),
        ("version: 0.0\nos: windows\n", "Windows machines are not carried out here"),
        ("version: 0.0\nos: Linux\n", "in lower case"),
        ("version: 0.0\nResources:\n  - x: {}\n", "for ECS or Lambda"),
        ('{"resources": [], "Hooks": []}', "for ECS or Lambda"),
        ('{"name": "an app of somebody else\'s"}', "no appspec of deployments"),
        ("- a\n", "an appspec is a mapping"),
        ("", "the document is empty"),
        ("version: 0.0\nos: linux\nfiles: &a [*a]\n", "files[0]"),
    ],
)
def test_documents_that_are_no_appspec_for_servers(head: str, words: str):
    assert any(words in fault for fault in faults("", head)), faults("", head)


def test_a_mode_is_what_is_written_and_the_agents_reading_is_told():
    for text, mode, theirs in (("0644", 0o644, "sets 0420"), ("0640", 0o640, "sets 0416"), ("0777", 0o777, "sets 0511"),
                               ("0755", 0o755, "refuses it as 493"), ("0600", 0o600, "refuses it as 384")):  # fmt: skip
        spec = permission(f"mode: {text}")
        assert spec.permissions[0].mode == mode
        assert theirs in spec.warnings[0]
    for text, mode in (('"0644"', 0o644), ("755", 0o755), ("4755", 0o4755), ("7", 7), ("0", 0)):
        spec = permission(f"mode: {text}")
        assert (spec.permissions[0].mode, spec.warnings) == (mode, ())


def test_a_context_needs_no_range_and_takes_user_and_name():
    assert permission("context: {type: a_t}").permissions[0].context == SecurityContext("a_t")
    spec = permission("context: {type: a_t, user: b_u}")
    assert spec.permissions[0].context == SecurityContext("a_t", "b_u")
    assert "from name alone" in spec.warnings[0]
    assert "s0-" in faults("permissions: [{object: /a, context: {type: a_t, range: s0-}}]")[0]
    assert "c1024" in faults('permissions: [{object: /a, context: {type: a_t, range: "s0:c1024"}}]')[0]


def test_what_is_unknown_or_without_effect_is_warned_of():
    spec = parsed(
        """\
files:
  - source: a
    destination: /b
    overwrite: yes
hooks:
  Install:
    - location: x
  ApplicatonStart:
    - location: y
  AfterInstall:
    - {location: a, timeout: 1800}
    - {location: b, timeout: 1801}
    - {location: c}
  ValidateService:
other: 1
"""
    )
    assert spec.warnings == (
        "line 6: files[0].overwrite is unknown and is ignored",
        "line 8: hooks.Install: no scripts run in this event, it is the engine's own and it is ignored",
        "line 10: hooks.ApplicatonStart: there is no lifecycle event of this name and it never runs",
        "line 13: hooks.AfterInstall: its scripts may take 3601 s together; the event ends after 3600 s",
        "line 17: other is unknown and is ignored",
    )
    assert "Install" not in spec.hooks
    assert "ValidateService" not in spec.hooks


def test_empty_sections_are_nothing():
    spec = parsed("files:\npermissions:\nhooks:\n  ApplicationStart:\nfile_exists_behavior:\n")
    assert spec == AppSpec(warnings=spec.warnings)
    assert spec.warnings == ("line 1: there are neither files nor hooks; the deployment does nothing",)


def test_a_byte_order_mark_and_windows_line_ends_are_nothing():
    assert parse_appspec("\ufeff" + HEAD.replace("\n", "\r\n") + "files:\r\n- source: a\r\n  destination: /b\r\n").files


@settings(max_examples=60, deadline=None)
@given(st.recursive(st.text(max_size=8), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.sampled_from(["files", "source", "destination", "permissions", "object", "mode", "acls", "context", "type", "hooks",
                     "ApplicationStart", "location", "timeout", "runas", "os", "version", "except", "range"]), inner, max_size=4
), max_leaves=20))  # fmt: skip
def test_any_document_is_read_or_refused(value):
    import json

    with contextlib.suppress(InvalidDocument):
        assert isinstance(parse_appspec(json.dumps(value)), AppSpec)
