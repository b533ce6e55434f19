"""What forges send, read into happenings: only what is needed, each value looked at. Pure.

Everything in a payload may be a stranger's choice (a branch's name, a file's, a message): it becomes a value to be matched
and a variable of the build, and never a part of a command.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hooks.builds.git_address import version_fault
from hooks.builds.push_filters import PUSH, Happening
from hooks.builds.push_signatures import GENERIC, GITEA, GITHUB, GITLAB
from registry.errors import Invalid

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_MAX_FILES = 10_000
_MAX_MESSAGE = 10_000
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
    """

    happening: Happening
    version: str
    trigger: str
    commit: str
    previous_commit: str = ""
    merge_commit: str = ""
    from_fork: bool = False

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


def read_payload(provider: str, event: str, payload: Any) -> Told | str:
    """What a verified delivery tells, or in words why there is nothing to build of it. Raises Invalid."""
    if not isinstance(payload, dict):
        raise Invalid("the payload is no object")
    readers: Mapping[str, Callable[[str, Mapping[str, Any]], Told | str]] = {
        GITHUB: _hub,
        GITEA: _hub,
        GITLAB: _lab,
        GENERIC: lambda _event, given: _generic(given),
    }
    return readers[provider](event, payload)


# --- GitHub, and Gitea, which sends the same shapes ------------------------------------------------------------------


def _hub(event: str, given: Mapping[str, Any]) -> Told | str:
    actor, repository = _id(given, "sender", "id"), _text(given, "repository", "full_name")
    if event == "push":
        commits = [each for each in given.get("commits") or () if isinstance(each, dict)]
        head = given.get("head_commit")
        message = _text(head if isinstance(head, dict) else (commits[0] if commits else {}), "message")
        return _push(given, actor, repository, message, _files(commits))
    if event == "pull_request":
        return _hub_pull(given, actor, repository)
    if event == "release":
        return _hub_release(given, actor, repository)
    return f"nothing is built of {event or 'an event without a name'}"[:200]


def _hub_pull(given: Mapping[str, Any], actor: str, repository: str) -> Told | str:
    pull, action = _object(given, "pull_request"), _text(given, "action")
    event = _PULL_EVENTS.get(action)
    if action == "closed":
        event = "PULL_REQUEST_MERGED" if pull.get("merged") is True else "PULL_REQUEST_CLOSED"
    if event is None:
        return f"nothing is built of a pull request that is {action}"[:200]
    head, base = _object(pull, "head"), _object(pull, "base")
    commit, number = _commit(_text(head, "sha")), int(_id(given, "number"))
    return Told(
        Happening(
            event,
            actor,
            head_ref=_ref(f"refs/heads/{_text(head, 'ref')}"),
            base_ref=_ref(f"refs/heads/{_text(base, 'ref')}"),
            message=_text(pull, "title")[:_MAX_MESSAGE],
            repository=repository,
        ),
        version=f"refs/pull/{number}/head^{{{commit}}}",
        trigger=f"pr/{number}",
        commit=commit,
        merge_commit=_text(pull, "merge_commit_sha"),
        from_fork=_id(head, "repo", "id") != _id(base, "repo", "id"),
    )


def _hub_release(given: Mapping[str, Any], actor: str, repository: str) -> Told | str:
    release, action = _object(given, "release"), _text(given, "action")
    event = {"released": "RELEASED", "prereleased": "PRERELEASED"}.get(action)
    if event is None:
        return f"nothing is built of a release that is {action}"[:200]
    tag = _text(release, "tag_name")
    reference = _ref(f"refs/tags/{tag}")
    happening = Happening(
        event,
        actor,
        head_ref=reference,
        tag_name=tag,
        release_name=_text(release, "name")[:_MAX_MESSAGE],
        repository=repository,
    )
    return Told(happening, version=reference, trigger=f"tag/{tag}", commit="")


# --- GitLab ----------------------------------------------------------------------------------------------------------


def _lab(event: str, given: Mapping[str, Any]) -> Told | str:
    project = _object(given, "project")
    repository = _text(project, "path_with_namespace")
    if event in {"Push Hook", "Tag Push Hook"}:
        commits = [each for each in given.get("commits") or () if isinstance(each, dict)]
        last = commits[-1] if commits else {}
        return _push(given, _id(given, "user_id"), repository, _text(last, "message"), _files(commits))
    if event != "Merge Request Hook":
        return f"nothing is built of {event or 'an event without a name'}"[:200]
    merge = _object(given, "object_attributes")
    action = _text(merge, "action")
    name = _MERGE_EVENTS.get(action)
    if name is None or (name == "PULL_REQUEST_UPDATED" and not merge.get("oldrev")):
        return f"nothing is built of a merge request that is told as {action}"[:200]
    commit, number = _commit(_text(merge, "last_commit", "id")), int(_id(merge, "iid"))
    return Told(
        Happening(
            name,
            _id(given, "user", "id"),
            head_ref=_ref(f"refs/heads/{_text(merge, 'source_branch')}"),
            base_ref=_ref(f"refs/heads/{_text(merge, 'target_branch')}"),
            message=_text(merge, "last_commit", "message")[:_MAX_MESSAGE],
            repository=repository,
        ),
        version=f"refs/merge-requests/{number}/head^{{{commit}}}",
        trigger=f"pr/{number}",
        commit=commit,
        merge_commit=_text(merge, "merge_commit_sha"),
        from_fork=_id(merge, "source_project_id") != _id(merge, "target_project_id"),
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
    known = tuple(files[:_MAX_FILES]) if files is not None else None
    return _push(given, _id(given, "actorAccountId"), _text(given, "repository"), _text(given, "commitMessage"), known)


# --- what they have in common ----------------------------------------------------------------------------------------


def _push(
    given: Mapping[str, Any], actor: str, repository: str, message: str, files: tuple[str, ...] | None
) -> Told | str:
    reference, commit = _ref(_text(given, "ref")), _commit(_text(given, "after"))
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
        message=message[:_MAX_MESSAGE],
        tag_name=name if is_tag else None,
        repository=repository,
    )
    before = _text(given, "before")
    return Told(
        happening,
        version=f"{reference}^{{{commit}}}",
        trigger=f"{'tag' if is_tag else 'branch'}/{name}",
        commit=commit,
        previous_commit=before if _COMMIT.match(before) else "",
    )


def _files(commits: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for commit in commits:
        for kind in ("added", "modified", "removed"):
            listed = commit.get(kind)
            for path in listed if isinstance(listed, list) else ():
                if isinstance(path, str) and len(found) < _MAX_FILES:
                    found[path] = None
    return tuple(found)


def _at(given: Any, *path: str) -> Any:
    for name in path:
        given = given.get(name) if isinstance(given, dict) else None
    return given


def _object(given: Any, *path: str) -> Mapping[str, Any]:
    found = _at(given, *path)
    if not isinstance(found, dict):
        raise Invalid(f"the payload has no {'.'.join(path)}")
    return found


def _text(given: Any, *path: str) -> str:
    found = _at(given, *path)
    return found.replace("\0", "") if isinstance(found, str) else ""


def _id(given: Any, *path: str) -> str:
    """A number or a short word that names something to the forge."""
    found = _at(given, *path)
    text = str(found) if isinstance(found, int | str) and not isinstance(found, bool) else ""
    if not re.fullmatch(r"[A-Za-z0-9_.:{}-]{1,128}", text):
        raise Invalid(f"the payload has no {'.'.join(path)}")
    return text


def _ref(text: str) -> str:
    if not text.startswith("refs/") or "^{" in text or version_fault(text):
        raise Invalid("the payload names no reference that git could have")
    return text


def _commit(text: str) -> str:
    if not _COMMIT.match(text):
        raise Invalid("the payload names no commit")
    return text
