"""What forges send, read into happenings: only what is needed, each value looked at. Pure.

Everything in a payload may be a stranger's choice (a branch's name, a file's, a message): it becomes a value to be matched
and a variable of the build, and never a part of a command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from hooks.builds.push_comments import Comment, Person, hub_author, hub_comment, lab_author, lab_comment
from hooks.builds.push_fields import (
    COMMIT,
    MAX_FILES,
    MAX_MESSAGE,
    commit_id,
    files_of,
    git_reference,
    id_at,
    number_at,
    object_at,
    text_at,
)
from hooks.builds.push_filters import PUSH, Happening
from hooks.builds.push_signatures import GENERIC, GITEA, GITHUB, GITLAB
from registry.errors import Invalid

_PULL_EVENTS = {
    "opened": "PULL_REQUEST_CREATED",
    "synchronize": "PULL_REQUEST_UPDATED",
    "synchronized": "PULL_REQUEST_UPDATED",
    "reopened": "PULL_REQUEST_REOPENED",
}
_MERGE_EVENTS = {
    "open": "PULL_REQUEST_CREATED",
    "update": "PULL_REQUEST_UPDATED",
    "reopen": "PULL_REQUEST_REOPENED",
    "merge": "PULL_REQUEST_MERGED",
    "close": "PULL_REQUEST_CLOSED",
}


@dataclass(frozen=True, slots=True)
class Told:
    """A happening, and what to build of it. ``version`` names a reference and the commit that it has to be.

    ``trigger`` is ``branch/x``, ``tag/x`` or ``pr/12``; ``from_fork``: the commit was pushed to another repository.
    ``author`` is who opened a pull request, where nobody else did what is told of it now.
    """

    happening: Happening
    version: str
    trigger: str
    commit: str
    previous_commit: str = ""
    merge_commit: str = ""
    from_fork: bool = False
    author: Person | None = None

    def variables(self) -> dict[str, str]:
        """CODEBUILD_WEBHOOK_* (the CodeBuild user guide's "Environment variables in build environments")."""
        happening = self.happening
        given = {
            "EVENT": happening.event,
            "TRIGGER": self.trigger,
            "ACTOR_ACCOUNT_ID": happening.actor_id,
            "HEAD_REF": happening.head_ref,
            "BASE_REF": happening.base_ref,
            "PREV_COMMIT": self.previous_commit,
            "MERGE_COMMIT": self.merge_commit,
        }
        return {f"CODEBUILD_WEBHOOK_{name}": value for name, value in given.items() if value}


def read_payload(provider: str, event: str, payload: Any) -> Told | Comment | str:
    """What a verified delivery tells, or in words why there is nothing to build of it. Raises Invalid."""
    if not isinstance(payload, dict):
        raise Invalid("the payload is no object")
    readers: Mapping[str, Callable[[str, Mapping[str, Any]], Told | Comment | str]] = {
        GITHUB: partial(_hub, GITHUB),
        GITEA: partial(_hub, GITEA),
        GITLAB: _lab,
        GENERIC: lambda _event, given: _generic(given),
    }
    return readers[provider](event, payload)


# --- GitHub, and Gitea, which sends the same shapes ------------------------------------------------------------------


def _hub(provider: str, event: str, given: Mapping[str, Any]) -> Told | Comment | str:
    actor, repository = id_at(given, "sender", "id"), text_at(given, "repository", "full_name")
    if event == "push":
        commits = [each for each in given.get("commits") or () if isinstance(each, dict)]
        head = given.get("head_commit")
        message = text_at(head if isinstance(head, dict) else (commits[0] if commits else {}), "message")
        return _push(given, actor, repository, message, files_of(commits))
    if event == "pull_request":
        return _hub_pull(given, actor, repository, hub_author(provider, given))
    if event in {"issue_comment", "pull_request_comment"}:
        return hub_comment(provider, given)
    if event == "release":
        return _hub_release(given, actor, repository)
    return f"nothing is built of {event or 'an event without a name'}"[:200]


def _hub_pull(given: Mapping[str, Any], actor: str, repository: str, author: Person | None) -> Told | str:
    pull, action = object_at(given, "pull_request"), text_at(given, "action")
    event = _PULL_EVENTS.get(action)
    if action == "closed":
        event = "PULL_REQUEST_MERGED" if pull.get("merged") is True else "PULL_REQUEST_CLOSED"
    if event is None:
        return f"nothing is built of a pull request that is {action}"[:200]
    head, base = object_at(pull, "head"), object_at(pull, "base")
    commit, number = commit_id(text_at(head, "sha")), number_at(given, "number")
    return Told(
        Happening(
            event,
            actor,
            head_ref=git_reference(f"refs/heads/{text_at(head, 'ref')}"),
            base_ref=git_reference(f"refs/heads/{text_at(base, 'ref')}"),
            message=text_at(pull, "title")[:MAX_MESSAGE],
            repository=repository,
        ),
        version=f"refs/pull/{number}/head^{{{commit}}}",
        trigger=f"pr/{number}",
        commit=commit,
        merge_commit=text_at(pull, "merge_commit_sha"),
        from_fork=id_at(head, "repo", "id") != id_at(base, "repo", "id"),
        author=author,
    )


def _hub_release(given: Mapping[str, Any], actor: str, repository: str) -> Told | str:
    release, action = object_at(given, "release"), text_at(given, "action")
    event = {"released": "RELEASED", "prereleased": "PRERELEASED"}.get(action)
    if event is None:
        return f"nothing is built of a release that is {action}"[:200]
    tag = text_at(release, "tag_name")
    reference = git_reference(f"refs/tags/{tag}")
    happening = Happening(
        event,
        actor,
        head_ref=reference,
        tag_name=tag,
        release_name=text_at(release, "name")[:MAX_MESSAGE],
        repository=repository,
    )
    return Told(happening, version=reference, trigger=f"tag/{tag}", commit="")


# --- GitLab ----------------------------------------------------------------------------------------------------------


def _lab(event: str, given: Mapping[str, Any]) -> Told | Comment | str:
    if event == "Note Hook":
        return lab_comment(given)
    project = object_at(given, "project")
    repository = text_at(project, "path_with_namespace")
    if event in {"Push Hook", "Tag Push Hook"}:
        commits = [each for each in given.get("commits") or () if isinstance(each, dict)]
        last = commits[-1] if commits else {}
        return _push(given, id_at(given, "user_id"), repository, text_at(last, "message"), files_of(commits))
    if event != "Merge Request Hook":
        return f"nothing is built of {event or 'an event without a name'}"[:200]
    merge = object_at(given, "object_attributes")
    action = text_at(merge, "action")
    name = _MERGE_EVENTS.get(action)
    if name is None or (name == "PULL_REQUEST_UPDATED" and not merge.get("oldrev")):
        return f"nothing is built of a merge request that is told as {action}"[:200]
    commit, number = commit_id(text_at(merge, "last_commit", "id")), number_at(merge, "iid")
    return Told(
        Happening(
            name,
            id_at(given, "user", "id"),
            head_ref=git_reference(f"refs/heads/{text_at(merge, 'source_branch')}"),
            base_ref=git_reference(f"refs/heads/{text_at(merge, 'target_branch')}"),
            message=text_at(merge, "last_commit", "message")[:MAX_MESSAGE],
            repository=repository,
        ),
        version=f"refs/merge-requests/{number}/head^{{{commit}}}",
        trigger=f"pr/{number}",
        commit=commit,
        merge_commit=text_at(merge, "merge_commit_sha"),
        from_fork=id_at(merge, "source_project_id") != id_at(merge, "target_project_id"),
        author=lab_author(given),
    )


# --- anything else that can sign -------------------------------------------------------------------------------------

_GENERIC = {"ref", "before", "after", "actorAccountId", "filePaths", "commitMessage", "repository"}


def _generic(given: Mapping[str, Any]) -> Told | str:
    unknown = sorted(set(given) - _GENERIC)
    if unknown:
        raise Invalid(f"unknown field {unknown[0][:100]!r}; known are: {', '.join(sorted(_GENERIC))}")
    files = given.get("filePaths")
    if files is not None and (not isinstance(files, list) or not all(isinstance(path, str) for path in files)):
        raise Invalid("filePaths is a list of texts")
    known = tuple(files[:MAX_FILES]) if files is not None else None
    return _push(
        given, id_at(given, "actorAccountId"), text_at(given, "repository"), text_at(given, "commitMessage"), known
    )


# --- what they have in common ----------------------------------------------------------------------------------------


def _push(
    given: Mapping[str, Any], actor: str, repository: str, message: str, files: tuple[str, ...] | None
) -> Told | str:
    reference, commit = git_reference(text_at(given, "ref")), commit_id(text_at(given, "after"))
    if not commit.strip("0"):
        return f"{reference} was deleted"
    kind, _, name = reference.removeprefix("refs/").partition("/")
    if kind not in {"heads", "tags"} or not name:
        return f"{reference} is neither a branch nor a tag"
    is_tag = kind == "tags"
    happening = Happening(
        PUSH,
        actor,
        head_ref=reference,
        files=files,
        message=message[:MAX_MESSAGE],
        tag_name=name if is_tag else None,
        repository=repository,
    )
    before = text_at(given, "before")
    return Told(
        happening,
        version=f"{reference}^{{{commit}}}",
        trigger=f"{'tag' if is_tag else 'branch'}/{name}",
        commit=commit,
        previous_commit=before if COMMIT.match(before) else "",
    )
