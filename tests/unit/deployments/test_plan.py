"""From a bundle and its appspec to steps: CodeDeploy's agent's rules, without a machine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.deployments.acl import AclEntry, completed, packed, parse_entry
from hooks.deployments.appspec import parse_appspec
from hooks.deployments.appspec_model import FileExistsBehavior
from hooks.deployments.host.globs import is_like
from hooks.deployments.host.plan import UnsafePlace, plan_install
from hooks.deployments.host.steps import Copy, InstallPlan, Kind, MakeDirectory, SetAcl, SetContext, SetMode, SetOwner
from hooks.deployments.lifecycle import Course, Release, chosen, release_of
from hooks.deployments.outcomes import ErrorCode

D, F, L = Kind.DIRECTORY, Kind.FILE, Kind.LINK
BUNDLE = {"appspec.yml": F, "conf": D, "conf/a.ini": F, "conf/sub": D, "conf/sub/.b": F, "conf/sub/c.sh": F, "link": L}
THERE = {"/": D, "/opt": D}


def planned(text: str, there: dict[str, Kind] | None = None, behavior: str = "DISALLOW", leaving=()) -> InstallPlan:
    spec = parse_appspec("version: 0.0\nos: linux\n" + text)
    machine = THERE | (there or {})

    def look(place):
        if place.path.endswith("/planted"):
            raise UnsafePlace("somebody else's link")
        return machine.get(place.path)

    return plan_install(BUNDLE, spec, FileExistsBehavior(behavior), look, leaving)


def copies(plan: InstallPlan) -> dict[str, str]:
    return {step.place.path: step.source for step in plan.steps if isinstance(step, Copy)}


def made(plan: InstallPlan) -> list[str]:
    return [step.place.path for step in plan.steps if isinstance(step, MakeDirectory)]


def files(source: str, destination: str) -> str:
    return f"files: [{{source: {source}, destination: {destination}}}]\n"


def test_a_directorys_contents_go_into_the_destination_and_what_is_missing_above_is_made():
    plan = planned(files("conf", "/opt/a/b"))
    assert made(plan) == ["/opt/a", "/opt/a/b", "/opt/a/b/sub"]
    assert copies(plan) == {
        "/opt/a/b/a.ini": "conf/a.ini", "/opt/a/b/sub/.b": "conf/sub/.b", "/opt/a/b/sub/c.sh": "conf/sub/c.sh",
    }  # fmt: skip
    assert plan.conflicts == ()


def test_a_file_goes_below_the_destination_by_its_name_and_a_link_as_a_link():
    plan = planned("files: [{source: conf/a.ini, destination: /opt}, {source: link, destination: /opt/x}]")
    assert copies(plan) == {"/opt/a.ini": "conf/a.ini", "/opt/x/link": "link"}
    assert [step.kind for step in plan.steps if isinstance(step, Copy)] == [F, L]


def test_the_whole_bundle_takes_the_document_along():
    assert "/opt/app/appspec.yml" in copies(planned(files("/", "/opt/app")))


def test_wildcards_are_not_expanded():
    (conflict,) = planned(files("'./conf/*'", "/opt")).conflicts
    assert "wildcards are not expanded" in conflict.reason


def test_two_copies_to_one_place_and_a_file_that_is_a_directory_too_are_refused():
    twice = "files: [{source: conf/a.ini, destination: /opt}, {source: conf, destination: /opt}]"
    (conflict,) = planned(twice).conflicts
    assert conflict.path == "/opt/a.ini"
    both = "files: [{source: conf/a.ini, destination: /opt}, {source: conf/sub, destination: /opt/a.ini/x}]"
    assert planned(both).conflicts[0].path == "/opt/a.ini"
    the_same_directory = "files: [{source: conf/a.ini, destination: /opt/x}, {source: conf/sub, destination: /opt/x}]"
    assert planned(the_same_directory).conflicts == ()


@pytest.mark.parametrize("behavior", ["DISALLOW", "OVERWRITE", "RETAIN"])
def test_files_that_are_there_already(behavior: str):
    plan = planned(files("conf/a.ini", "/opt"), {"/opt/a.ini": F}, behavior)
    assert (len(plan.conflicts), plan.overwritten, plan.retained) == {
        "DISALLOW": (1, (), ()), "OVERWRITE": (0, ("/opt/a.ini",), ()), "RETAIN": (0, (), ("/opt/a.ini",)),
    }[behavior]  # fmt: skip
    # the document wins over whoever starts the deployment
    own = planned(files("conf/a.ini", "/opt") + "file_exists_behavior: RETAIN", {"/opt/a.ini": F}, behavior)
    assert own.retained == ("/opt/a.ini",)
    # a directory goes for no file, and a file for no directory
    assert planned(files("conf/a.ini", "/opt"), {"/opt/a.ini": D}, behavior).conflicts
    assert planned(files("conf", "/opt/x"), {"/opt/x": F}, behavior).conflicts


def test_what_the_deployment_before_has_put_there_is_no_conflict():
    there = {"/opt/a.ini": F}
    assert planned(files("conf/a.ini", "/opt"), there, leaving={"/opt/a.ini"}).conflicts == ()


def test_a_place_that_others_decide_about_is_a_conflict():
    (conflict,) = planned(files("conf/a.ini", "/opt/planted")).conflicts
    assert conflict.reason == "somebody else's link"


# --- permissions


def changed(plan: InstallPlan, kind=SetMode) -> list[str]:
    return sorted(step.place.path for step in plan.steps if isinstance(step, kind))


def with_permission(text: str, **rest) -> InstallPlan:
    return planned(files("conf", "/opt/app") + f"permissions:\n- {{object: /opt/app, mode: 600, {text}}}", **rest)


def test_permissions_reach_everything_below_and_not_the_object_itself():
    assert changed(with_permission("")) == ["/opt/app/a.ini", "/opt/app/sub", "/opt/app/sub/.b", "/opt/app/sub/c.sh"]
    assert changed(with_permission("type: file")) == ["/opt/app/a.ini", "/opt/app/sub/.b", "/opt/app/sub/c.sh"]
    assert changed(with_permission("type: [directory]")) == ["/opt/app/sub"]


def test_a_pattern_reaches_the_next_level_only_and_so_does_except():
    assert changed(with_permission('pattern: "*"')) == ["/opt/app/a.ini", "/opt/app/sub"]
    assert changed(with_permission('pattern: "*.ini"')) == ["/opt/app/a.ini"]
    assert changed(with_permission('pattern: "*.sh"')) == []
    assert changed(with_permission("except: [sub]")) == ["/opt/app/a.ini", "/opt/app/sub/.b", "/opt/app/sub/c.sh"]


def test_what_was_there_before_or_is_retained_is_not_touched():
    plan = with_permission("", there={"/opt/app": D, "/opt/app/sub": D, "/opt/app/a.ini": F}, behavior="RETAIN")
    assert changed(plan) == ["/opt/app/sub/.b", "/opt/app/sub/c.sh"]


def test_a_permission_for_a_file():
    start = files("conf", "/opt/app")
    assert changed(planned(start + "permissions: [{object: /opt/app/a.ini, mode: 600}]")) == ["/opt/app/a.ini"]
    assert changed(planned(start + "permissions: [{object: /opt/app/a.ini, mode: 600, type: [directory]}]")) == []
    for wrong in ('pattern: "*"', "except: [x]"):
        plan = planned(start + f"permissions: [{{object: /opt/app/a.ini, mode: 600, {wrong}}}]")
        assert "it is a file" in plan.conflicts[0].reason


def test_a_path_that_two_permissions_select_is_refused():
    text = "permissions: [{object: /opt/app, mode: 600}, {object: /opt/app/sub, mode: 700}]"
    paths = [conflict.path for conflict in planned(files("conf", "/opt/app") + text).conflicts]
    assert paths == ["/opt/app/sub/.b", "/opt/app/sub/c.sh"]


def test_the_order_for_each_path_and_that_links_have_neither_mode_nor_list():
    text = 'permissions: [{object: /opt, owner: a, mode: 600, acls: ["u:b:r"], context: {type: c_t}}]'
    plan = planned(files("conf/a.ini", "/opt") + text)
    assert [type(step) for step in plan.steps] == [Copy, SetMode, SetAcl, SetContext, SetOwner]
    assert [type(step) for step in planned(files("link", "/opt") + text).steps] == [Copy, SetContext, SetOwner]


def test_default_entries_are_for_directories():
    plan = with_permission('acls: ["d:u:a:rx"], type: [directory]')
    assert (plan.conflicts, changed(plan, SetAcl)) == ((), ["/opt/app/sub"])
    assert "are for directories" in with_permission('acls: ["d:u:a:rx"]').conflicts[0].reason


def test_a_permission_that_matches_nothing_is_told():
    plan = planned(files("conf/a.ini", "/opt/new") + "permissions: [{object: /opt/new/, mode: 600, type: [directory]}]")
    assert "the directory itself is not changed" in plan.notes[0]


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_the_wildcard_is_any_run_of_characters(pattern: str, name: str):
    import re

    expected = re.fullmatch(re.sub(r"\\\*", ".*", re.escape(pattern)), name) is not None
    assert is_like(name, pattern) is expected


# --- access control lists


def test_a_list_is_completed_from_the_mode_and_its_mask_is_the_groups():
    entries = completed([parse_entry("u:a:rwx"), parse_entry("d:u:b:r")], 0o640)
    assert {(e.is_default, e.kind, e.name, e.rights) for e in entries} == {
        (False, "user", "a", 7), (False, "user", "", 6), (False, "group", "", 4), (False, "other", "", 0), (False, "mask", "", 4),
        (True, "user", "b", 4), (True, "user", "", 6), (True, "group", "", 4), (True, "other", "", 0), (True, "mask", "", 4),
    }  # fmt: skip
    assert len(completed([parse_entry("m::rw")], 0o600)) == 4


def test_entries_as_setfacl_spells_them():
    assert parse_entry("a:rx") == AclEntry("user", "a", 5)
    assert parse_entry("default:group:a:7") == AclEntry("group", "a", 7, is_default=True)
    assert parse_entry("m:rw") == parse_entry("mask::rw-") == AclEntry("mask", "", 6)
    assert parse_entry("d:m:rw") == AclEntry("mask", "", 6, is_default=True)
    for wrong in ("", "a", "u:a:q", "u:a:", "u:a:8", "o::r", "g::r", "d:d:u:a:r"):
        with pytest.raises(ValueError):
            parse_entry(wrong)


def test_the_same_account_twice_in_a_list_is_refused():
    twice = [AclEntry("user", "a", 4), AclEntry("user", "0", 4)]
    with pytest.raises(ValueError, match="twice"):
        packed(twice, lambda _kind, _name: 0)


# --- events


def test_the_order_of_events():
    server = (
        "ApplicationStop",
        "DownloadBundle",
        "BeforeInstall",
        "Install",
        "AfterInstall",
        "ApplicationStart",
        "ValidateService",
    )
    block, allow = (
        ("BeforeBlockTraffic", "BlockTraffic", "AfterBlockTraffic"),
        ("BeforeAllowTraffic", "AllowTraffic", "AfterAllowTraffic"),
    )
    assert Course.IN_PLACE.events == server
    assert Course.IN_PLACE_BALANCED.events == (*block, *server, *allow)
    assert Course.BLUE_GREEN_REPLACEMENT.events == (*server, *allow)
    assert Course.BLUE_GREEN_ORIGINAL.events == Course.BLUE_GREEN_ROLLBACK_REPLACEMENT.events == block
    assert Course.BLUE_GREEN_ROLLBACK_ORIGINAL.events == allow
    assert Course.LOCAL.events == (
        "BeforeBlockTraffic",
        "AfterBlockTraffic",
        *server,
        "BeforeAllowTraffic",
        "AfterAllowTraffic",
    )


def test_whose_scripts_run():
    for event in ("ApplicationStop", "BeforeBlockTraffic", "AfterBlockTraffic"):
        assert release_of(event, Course.IN_PLACE) is Release.LAST_SUCCESSFUL
    assert (
        release_of("AfterInstall", Course.IN_PLACE) is release_of("AfterAllowTraffic", Course.LOCAL) is Release.CURRENT
    )
    assert release_of("AfterBlockTraffic", Course.BLUE_GREEN_ROLLBACK_REPLACEMENT) is Release.MOST_RECENT
    assert release_of("BeforeAllowTraffic", Course.BLUE_GREEN_ROLLBACK_ORIGINAL) is Release.LAST_SUCCESSFUL


def test_a_list_of_ones_own_gets_download_and_install_ahead():
    assert chosen(["ApplicationStop"]) == ("DownloadBundle", "Install", "ApplicationStop")
    assert chosen(["ApplicationStop", "DownloadBundle", "Install"]) == ("ApplicationStop", "DownloadBundle", "Install")
    for wrong in (["Install", "DownloadBundle"], ["A", "A"]):
        with pytest.raises(ValueError):
            chosen(wrong)


def test_the_codes_are_codedeploys():
    assert [(code.number, code.aws_name) for code in ErrorCode] == [
        (0, "Success"), (1, "ScriptMissing"), (2, "ScriptNotExecutable"), (3, "ScriptTimedOut"), (4, "ScriptFailed"),
        (5, "UnknownError"), (6, "UnknownError"), (7, "UnknownError"),
    ]  # fmt: skip
