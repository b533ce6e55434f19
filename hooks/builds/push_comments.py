"""Who did what a forge tells of, and the comments by which they let a pull request be built. Pure.

The command is CodeBuild's: a line ``/codebuild_run(COMMIT)`` of a comment (the user guide's "Pull request comment approval").
It names the commit in full, so that what is pushed after somebody has looked is not what gets built. Of roles only that is
taken which the delivery itself says for certain, and nothing where the forge does not say it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hooks.builds.push_fields import at, id_at, number_at, object_at, text_at
from hooks.builds.push_signatures import GITEA, GITHUB, GITLAB

ROLES: Mapping[str, tuple[str, ...]] = {
    GITHUB: ("GITHUB_READ", "GITHUB_TRIAGE", "GITHUB_WRITE", "GITHUB_MAINTAIN", "GITHUB_ADMIN"),
    GITLAB: (
        "GITLAB_GUEST",
        "GITLAB_PLANNER",
        "GITLAB_REPORTER",
        "GITLAB_DEVELOPER",
        "GITLAB_MAINTAINER",
        "GITLAB_OWNER",
    ),
    "bitbucket": ("BITBUCKET_READ", "BITBUCKET_WRITE", "BITBUCKET_ADMIN"),
    GITEA: ("GITEA_READ", "GITEA_WRITE", "GITEA_ADMIN"),
}
"""CodeBuild's approverRoles, and ours for Gitea."""
DEFAULT_ROLES = (
    "GITHUB_WRITE",
    "GITHUB_MAINTAIN",
    "GITHUB_ADMIN",
    "GITLAB_DEVELOPER",
    "GITLAB_MAINTAINER",
    "GITLAB_OWNER",
    "GITEA_WRITE",
    "GITEA_ADMIN",
)
"""Those who could push what they let be built."""
COMMAND = "codebuild_run"
_APPROVAL = re.compile(rf"/{COMMAND}\(([0-9A-Fa-f]{{40}}|[0-9A-Fa-f]{{64}})\)\Z")
_MAX_COMMENT = 64 * 1024
_ASSOCIATIONS = {"OWNER": "GITHUB_ADMIN", "MEMBER": "GITHUB_READ", "COLLABORATOR": "GITHUB_READ"}
"""The least that GitHub's author_association says for certain: members and collaborators may have no right but to read."""
_PERMISSIONS = (("admin", "GITEA_ADMIN"), ("push", "GITEA_WRITE"), ("pull", "GITEA_READ"))


@dataclass(frozen=True, slots=True)
class Person:
    """An account of a forge by its id, and its role (one of ROLES) as far as the delivery tells it."""

    account_id: str
    role: str = ""


@dataclass(frozen=True, slots=True)
class Comment:
    """Somebody wants the pull request ``trigger`` (``pr/12``) built, at this commit."""

    trigger: str
    commit: str
    person: Person


def hub_author(provider: str, given: Mapping[str, Any]) -> Person | None:
    """Who opened a pull request, where it is also who did what is told of it now; else None.

    What Gitea says of rights in these deliveries is not always said of who did it.
    """
    pull = object_at(given, "pull_request")
    if at(pull, "user", "id") is None or id_at(pull, "user", "id") != id_at(given, "sender", "id"):
        return None
    role = _ASSOCIATIONS.get(text_at(pull, "author_association"), "") if provider == GITHUB else ""
    return Person(id_at(given, "sender", "id"), role)


def lab_author(given: Mapping[str, Any]) -> Person | None:
    """The same of a merge request; GitLab tells no roles."""
    opened_by = at(given, "object_attributes", "author_id")
    who = id_at(given, "user", "id")
    return Person(who) if opened_by is not None and str(opened_by) == who else None


def hub_comment(provider: str, given: Mapping[str, Any]) -> Comment | str:
    """A comment on GitHub or Gitea (``issue_comment``), or in words why it asks for nothing. Raises Invalid."""
    issue, comment = object_at(given, "issue"), object_at(given, "comment")
    if not isinstance(issue.get("pull_request"), dict) and given.get("is_pull") is not True:
        return "nothing is built of a comment on an issue"
    if text_at(given, "action") != "created":
        return f"nothing is built of a comment that is {text_at(given, 'action')}"[:200]
    who = id_at(given, "sender", "id")
    if id_at(comment, "user", "id") != who:
        return "nothing is built of a comment that is told by another than who wrote it"
    if provider == GITHUB:
        role = _ASSOCIATIONS.get(text_at(comment, "author_association"), "")
    else:
        role = next((role for name, role in _PERMISSIONS if at(given, "repository", "permissions", name) is True), "")
    return _comment(number_at(issue, "number"), text_at(comment, "body"), Person(who, role))


def lab_comment(given: Mapping[str, Any]) -> Comment | str:
    """A comment on GitLab (``Note Hook``), or in words why it asks for nothing. Raises Invalid."""
    note = object_at(given, "object_attributes")
    if text_at(note, "noteable_type") != "MergeRequest":
        return "nothing is built of a comment that is on no merge request"
    if text_at(note, "action") not in {"", "create"}:  # older releases say nothing, and tell new ones only
        return f"nothing is built of a comment with the action {text_at(note, 'action')}"[:200]
    who = id_at(given, "user", "id")
    if id_at(note, "author_id") != who:
        return "nothing is built of a comment that is told by another than who wrote it"
    return _comment(number_at(given, "merge_request", "iid"), text_at(note, "note"), Person(who))


def _comment(number: int, text: str, person: Person) -> Comment | str:
    for line in text[:_MAX_COMMENT].splitlines():
        found = _APPROVAL.match(line.strip())
        if found:
            return Comment(f"pr/{number}", found.group(1).lower(), person)
    return f"nothing is built of a comment without a line /{COMMAND}(COMMIT)"
