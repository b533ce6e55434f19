"""Comments that let pull requests be built, as the forges send them, and who counts as having written them."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.builds.push_comments import Comment, Person
from hooks.builds.push_payloads import Told, read_payload
from registry.errors import Invalid
from tests.unit.builds.test_push_filters import COMMIT, LAB_MERGE, hub_pull

APPROVAL = f"/codebuild_run({COMMIT})"


def hub_comment(body: str = APPROVAL, *, who: int = 12, association: str = "NONE", **changes: Any) -> dict[str, Any]:
    """GitHub's ``issue_comment``, as far as anything of it could matter."""
    user = {"id": who, "login": "bea", "type": "User", "site_admin": False}
    return {
        "action": "created",
        "issue": {
            "id": 99,
            "number": 7,
            "title": "A change",
            "state": "open",
            "user": {"id": 4711, "login": "ann"},
            "author_association": "NONE",
            "pull_request": {"url": "https://forge.example/api/pulls/7", "merged_at": None},
        },
        "comment": {"id": 1, "user": user, "body": body, "author_association": association},
        "repository": {"id": 2, "full_name": "team/one", "private": False, "permissions": {"admin": True}},
        "sender": user,
    } | changes


def tea_comment(body: str = APPROVAL, *, who: int = 12, **permissions: bool) -> dict[str, Any]:
    """Gitea's: what its repository says of permissions is said of who wrote the comment."""
    user = {"id": who, "login": "bea", "username": "bea"}
    return {
        "action": "created",
        "issue": {"id": 9, "number": 7, "state": "open", "pull_request": {"merged": False, "merged_at": None}},
        "comment": {"id": 1, "user": user, "body": body, "author_association": "OWNER"},
        "repository": {"id": 2, "full_name": "team/one", "permissions": permissions},
        "sender": user,
        "is_pull": True,
    }


def lab_note(note: str = APPROVAL, *, who: int = 12, **changes: Any) -> dict[str, Any]:
    """GitLab's ``Note Hook``."""
    return {
        "object_kind": "note",
        "event_type": "note",
        "user": {"id": who, "name": "Bea", "username": "bea"},
        "project_id": 1,
        "project": {"id": 1, "path_with_namespace": "team/one"},
        "object_attributes": {
            "id": 1244,
            "note": note,
            "noteable_type": "MergeRequest",
            "author_id": who,
            "action": "create",
            "system": False,
        }
        | changes,
        "merge_request": {"id": 70, "iid": 3, "source_project_id": 5, "target_project_id": 1, "state": "opened"},
    }


@pytest.mark.parametrize(
    ("provider", "event", "payload", "expected"),
    [
        ("github", "issue_comment", hub_comment(), Comment("pr/7", COMMIT, Person("12"))),
        (
            "github",
            "issue_comment",
            hub_comment(f"Looks fine.\r\n\r\n  {APPROVAL}\r\nThanks", association="OWNER"),
            Comment("pr/7", COMMIT, Person("12", "GITHUB_ADMIN")),
        ),
        (
            "github",
            "issue_comment",
            hub_comment(f"/codebuild_run({COMMIT.upper()})", association="MEMBER"),
            Comment("pr/7", COMMIT, Person("12", "GITHUB_READ")),
        ),
        (
            "gitea",
            "issue_comment",
            tea_comment(admin=False, push=True, pull=True),
            Comment("pr/7", COMMIT, Person("12", "GITEA_WRITE")),
        ),
        (
            "gitea",
            "pull_request_comment",
            tea_comment(admin=True, push=True, pull=True),
            Comment("pr/7", COMMIT, Person("12", "GITEA_ADMIN")),
        ),
        ("gitea", "issue_comment", tea_comment(), Comment("pr/7", COMMIT, Person("12"))),
        ("gitlab", "Note Hook", lab_note(), Comment("pr/3", COMMIT, Person("12"))),
        ("gitlab", "Note Hook", lab_note(noteable_type="Commit"), "on no merge request"),
        ("gitlab", "Note Hook", lab_note(action="update"), "the action update"),
        ("gitlab", "Note Hook", lab_note(author_id=4), "another than who wrote it"),
        ("github", "issue_comment", hub_comment(action="edited"), "that is edited"),
        ("github", "issue_comment", hub_comment(sender={"id": 13}), "another than who wrote it"),
        ("github", "issue_comment", hub_comment(issue={"number": 7}), "a comment on an issue"),
        ("github", "issue_comment", hub_comment("/codebuild_run(main)"), "without a line"),
        ("github", "issue_comment", hub_comment(f"/codebuild_run({COMMIT[:12]})"), "without a line"),
        ("github", "issue_comment", hub_comment(f"> {APPROVAL}"), "without a line"),
        ("github", "issue_comment", hub_comment(f"please do {APPROVAL}"), "without a line"),
        ("github", "issue_comment", hub_comment(""), "without a line"),
    ],
)
def test_a_comment_is_read_as_its_forge_sends_it(
    provider: str, event: str, payload: dict[str, Any], expected: Comment | str
) -> None:
    found = read_payload(provider, event, payload)
    if isinstance(expected, Comment):
        assert found == expected
    else:
        assert expected in str(found)


@pytest.mark.parametrize(
    ("payload", "author"),
    [
        (hub_pull(), None),
        (hub_pull(pull_request=hub_pull()["pull_request"] | {"user": {"id": 4711}}), Person("4711")),
        (
            hub_pull(pull_request=hub_pull()["pull_request"] | {"user": {"id": 4711}, "author_association": "OWNER"}),
            Person("4711", "GITHUB_ADMIN"),
        ),
        # somebody trusted has brought a stranger's branch up to date
        (hub_pull(pull_request=hub_pull()["pull_request"] | {"user": {"id": 9}, "author_association": "OWNER"}), None),
    ],
)
def test_the_author_counts_where_nobody_else_did_it(payload: dict[str, Any], author: Person | None) -> None:
    told = read_payload("github", "pull_request", payload)
    assert isinstance(told, Told)
    assert told.author == author


def test_the_author_of_a_merge_request_counts_where_nobody_else_did_it() -> None:
    for author, expected in ((4, Person("4")), (5, None)):
        given = LAB_MERGE | {"object_attributes": LAB_MERGE["object_attributes"] | {"author_id": author}}
        told = read_payload("gitlab", "Merge Request Hook", given)
        assert isinstance(told, Told)
        assert told.author == expected


@pytest.mark.parametrize("number", ["seven", "7x", "", None, True, 7.5])
def test_a_number_that_is_none_is_refused_as_nonsense(number: Any) -> None:
    issue = hub_comment()["issue"] | {"number": number}
    with pytest.raises(Invalid):
        read_payload("github", "issue_comment", hub_comment(issue=issue))
    with pytest.raises(Invalid):
        read_payload("github", "pull_request", hub_pull() | {"number": number})
