"""Filter groups of pushes, and what is read out of what forges send."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.builds.push_filters import Happening, group_faults, passes
from hooks.builds.push_payloads import Told, read_payload
from registry.errors import Invalid

COMMIT, BEFORE = "a" * 40, "b" * 40
PUSH = Happening(
    "PUSH",
    "4711",
    head_ref="refs/heads/main",
    files=("docs/a.md", "src/b.py"),
    message="fix: it\n\nmore",
    repository="team/one",
)


def each(kind: str, pattern: str, *, excludes: bool = False) -> dict[str, Any]:
    return {"type": kind, "pattern": pattern, "excludeMatchedPattern": excludes}


def group(*filters: dict[str, Any]) -> list[dict[str, Any]]:
    return [each("EVENT", "PUSH"), *filters]


@pytest.mark.parametrize(
    ("filters", "fits"),
    [
        ([], True),
        ([each("HEAD_REF", "^refs/heads/main$")], True),
        ([each("HEAD_REF", "refs/heads/.*")], True),
        ([each("HEAD_REF", "main")], False),
        ([each("HEAD_REF", "refs/heads/dev|refs/heads/main")], True),
        ([each("HEAD_REF", "refs/heads/main", excludes=True)], False),
        ([each("HEAD_REF", "refs/heads/ma", excludes=True)], True),
        ([each("BASE_REF", ".*")], False),
        ([each("BASE_REF", ".*", excludes=True)], True),
        ([each("ACTOR_ACCOUNT_ID", "12,4711")], True),
        ([each("ACTOR_ACCOUNT_ID", "471")], False),
        ([each("FILE_PATH", r"src/.*\.py")], True),
        ([each("FILE_PATH", r".*\.rs")], False),
        ([each("FILE_PATH", r"docs/.*", excludes=True)], True),
        ([each("FILE_PATH", r"(docs|src)/.*", excludes=True)], False),
        ([each("COMMIT_MESSAGE", r"(?s).*\[skip ci\].*", excludes=True)], True),
        ([each("COMMIT_MESSAGE", r"(?s)fix:.*")], True),
        ([each("REPOSITORY_NAME", "team/.*"), each("HEAD_REF", "refs/heads/main")], True),
        ([each("REPOSITORY_NAME", "team/.*"), each("HEAD_REF", "refs/heads/dev")], False),
    ],
)
def test_filters_of_a_group_all_have_to_pass(filters: list[dict[str, Any]], fits: bool) -> None:
    groups = [group(*filters)]
    assert group_faults(groups) == []
    assert passes(groups, PUSH) is fits


def test_one_group_is_enough() -> None:
    assert passes([group(each("HEAD_REF", "x")), group(each("HEAD_REF", "refs/heads/main"))], PUSH)
    assert not passes([[each("EVENT", "PULL_REQUEST_CREATED, RELEASED")]], PUSH)


def test_what_cannot_be_meant_is_refused_all_at_once() -> None:
    faults = group_faults(
        [
            [each("HEAD_REF", "(")],
            group(each("EVENT", "PUSH")),
            [each("EVENT", "SHOUT")],
            group(each("ACTOR_ACCOUNT_ID", "^4711$")),
            group(each("WORKFLOW_NAME", "x")),
        ]
    )
    for word in ("filterGroups[0]", "filterGroups[1]: exactly one", "SHOUT", "exact account ids", "WORKFLOW_NAME"):
        assert any(word in fault for fault in faults), word


def hub_push(**changes: Any) -> dict[str, Any]:
    return {
        "ref": "refs/heads/main",
        "before": BEFORE,
        "after": COMMIT,
        "sender": {"id": 4711, "login": "ann"},
        "repository": {"full_name": "team/one"},
        "commits": [{"message": "m", "added": ["a"], "modified": ["b"], "removed": ["c"]}],
        "head_commit": {"message": "the last"},
    } | changes


def hub_pull(**changes: Any) -> dict[str, Any]:
    return {
        "action": "opened",
        "number": 7,
        "sender": {"id": 4711},
        "repository": {"full_name": "team/one"},
        "pull_request": {
            "title": "t",
            "head": {"ref": "feature", "sha": COMMIT, "repo": {"id": 1}},
            "base": {"ref": "main", "repo": {"id": 2}},
        },
    } | changes


LAB_PUSH = {
    "ref": "refs/heads/main",
    "before": BEFORE,
    "after": COMMIT,
    "user_id": 4,
    "project": {"path_with_namespace": "team/one"},
    "commits": [{"message": "first"}, {"message": "last", "added": ["x"]}],
}
LAB_MERGE = {
    "user": {"id": 4},
    "project": {"path_with_namespace": "team/one"},
    "object_attributes": {
        "action": "open",
        "iid": 3,
        "source_branch": "feature",
        "target_branch": "main",
        "source_project_id": 1,
        "target_project_id": 1,
        "last_commit": {"id": COMMIT, "message": "m"},
    },
}


@pytest.mark.parametrize(
    ("provider", "event", "payload", "expected"),
    [
        ("github", "push", hub_push(), ("PUSH", "4711", f"refs/heads/main^{{{COMMIT}}}", "branch/main", False)),
        (
            "gitea",
            "push",
            hub_push(ref="refs/tags/v1"),
            ("PUSH", "4711", f"refs/tags/v1^{{{COMMIT}}}", "tag/v1", False),
        ),
        (
            "github",
            "pull_request",
            hub_pull(),
            ("PULL_REQUEST_CREATED", "4711", f"refs/pull/7/head^{{{COMMIT}}}", "pr/7", True),
        ),
        ("gitlab", "Push Hook", LAB_PUSH, ("PUSH", "4", f"refs/heads/main^{{{COMMIT}}}", "branch/main", False)),
        (
            "gitlab",
            "Merge Request Hook",
            LAB_MERGE,
            ("PULL_REQUEST_CREATED", "4", f"refs/merge-requests/3/head^{{{COMMIT}}}", "pr/3", False),
        ),
        (
            "generic",
            "push",
            {"ref": "refs/heads/main", "after": COMMIT, "actorAccountId": "u1"},
            ("PUSH", "u1", f"refs/heads/main^{{{COMMIT}}}", "branch/main", False),
        ),
    ],
)
def test_what_forges_send_is_read(provider: str, event: str, payload: dict[str, Any], expected: tuple) -> None:
    told = read_payload(provider, event, payload)
    assert isinstance(told, Told)
    found = told.happening
    assert (found.event, found.actor_id, told.version, told.trigger, told.from_fork) == expected


def test_the_files_and_the_message_are_those_of_the_push() -> None:
    told = read_payload("github", "push", hub_push())
    assert isinstance(told, Told)
    assert (told.happening.files, told.happening.message) == (("a", "b", "c"), "the last")
    assert told.variables()["CODEBUILD_WEBHOOK_PREV_COMMIT"] == BEFORE


@pytest.mark.parametrize(
    ("provider", "event", "payload", "why"),
    [
        ("github", "ping", {"sender": {"id": 1}}, "nothing is built of ping"),
        ("github", "push", hub_push(after="0" * 40), "was deleted"),
        ("github", "pull_request", hub_pull(action="labeled"), "labeled"),
        ("gitlab", "Merge Request Hook", LAB_MERGE | {"object_attributes": {"action": "approved"}}, "approved"),
    ],
)
def test_what_is_not_built_says_why(provider: str, event: str, payload: dict[str, Any], why: str) -> None:
    assert why in str(read_payload(provider, event, payload))


@pytest.mark.parametrize(
    "payload",
    [
        [],
        hub_push(ref="refs/heads/main\nx"),
        hub_push(ref="refs/heads/--upload-pack=x y"),
        hub_push(ref="refs/heads/a^{" + BEFORE + "}"),
        hub_push(ref="-x"),
        hub_push(after="HEAD"),
        hub_push(sender={"id": "4711\n12"}),
        hub_push(sender={"id": None}),
        hub_push(sender={"id": True}),
    ],
)
def test_values_that_git_or_a_forge_could_not_have_are_refused(payload: Any) -> None:
    with pytest.raises(Invalid):
        read_payload("github", "push", payload)
