"""H1, H8, H9 and J3: what somebody who can push, or send to a hook, could make of it."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from hooks.builds import push_approvals, push_filters, push_signatures, pushes, run
from hooks.builds.access import BuildAccess
from hooks.builds.executor import Item
from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from hooks.builds.grants import IssuedToken
from hooks.builds.patterns import is_found
from hooks.builds.push_filters import Happening, passes
from hooks.models import Build
from storage.errors import Damaged
from tests.build_bench import MISSING_SANDBOX, build, work_directory
from tests.functional.api_world import World
from tests.functional.test_push_hooks import Pushed
from tests.unit.builds.test_push_comments import APPROVAL, hub_comment
from tests.unit.builds.test_push_filters import COMMIT, each, group, hub_pull, hub_push

TRUSTED = "4711"
RESEMBLING = ["47110", "04711", "14711", "4711 ", "4711,", "\uff14\uff17\uff11\uff11", "4711\n", "", "ann"]


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    world = World(tmp_path_factory.mktemp("world"))
    world.account("builds", "read")
    yield Pushed(world)
    world.close()


# --- H1 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("actor", RESEMBLING)
def test_H1_an_account_that_only_resembles_a_trusted_one_starts_nothing(actor: str) -> None:
    groups = [group(each("ACTOR_ACCOUNT_ID", f"{TRUSTED},12"))]
    assert passes(groups, Happening("PUSH", TRUSTED, head_ref="refs/heads/main"))
    assert not passes(groups, Happening("PUSH", actor, head_ref="refs/heads/main"))


@pytest.mark.parametrize(
    "pattern", [f"^{TRUSTED}$", f"{TRUSTED}|12", ".*", f"{TRUSTED}\n", f"{TRUSTED}, 12", "(?i)ann"]
)
def test_H1_accounts_are_named_and_not_matched(pattern: str) -> None:
    assert push_filters.group_faults([group(each("ACTOR_ACCOUNT_ID", pattern))])


@pytest.mark.parametrize(
    ("pattern", "reference"),
    [
        ("refs/heads/main", "refs/heads/main-evil"),
        ("refs/heads/main", "refs/heads/x/refs/heads/main"),
        ("refs/heads/main|dev", "refs/heads/x/dev"),
        ("^refs/heads/main$", "refs/heads/main\nx"),
        ("refs/heads/main$", "refs/heads/main\n"),
        ("refs/heads/k", "refs/heads/\u212a"),
    ],
)
def test_H1_a_pattern_matches_the_whole_value(pattern: str, reference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [group(each("HEAD_REF", pattern))]
    assert not passes(groups, Happening("PUSH", TRUSTED, head_ref=reference))
    if "\n" not in reference and reference.isascii():
        monkeypatch.setattr(push_filters, "is_whole", is_found)
        assert passes(groups, Happening("PUSH", TRUSTED, head_ref=reference))


def test_H1_who_somebody_is_comes_from_the_forge_and_not_from_a_commit(
    pushed: Pushed, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = pushed.hook("github", filterGroups=[group(each("ACTOR_ACCOUNT_ID", TRUSTED))])
    author = {"name": TRUSTED, "email": f"{TRUSTED}@example.org", "username": TRUSTED}
    payload = hub_push(
        sender={"id": 47110, "login": TRUSTED},
        pusher=author,
        commits=[{"message": TRUSTED, "author": author, "committer": author}],
    )
    assert pushed.github(hook, payload).json["buildId"] is None

    class Holding(list[str]):
        def __contains__(self, value: object) -> bool:
            return any(word in str(value) for word in self)

    monkeypatch.setattr(push_filters, "_words", lambda pattern: Holding(pattern.split(",")))
    assert pushed.github(hook, payload | {"again": 1}).json["buildId"] is not None


def test_H1_a_strangers_pull_request_is_not_built_for_a_comment_that_is_no_approvers(
    pushed: Pushed, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [[{"type": "EVENT", "pattern": "PULL_REQUEST_CREATED"}]]
    hook = pushed.hook("github", filterGroups=events, pullRequestBuildPolicy={"approverAccountIds": [TRUSTED]})
    assert pushed.github(hook, hub_pull(sender={"id": 9}), event="pull_request").json["buildId"] is None
    plain, owner = hub_comment(who=9), {"id": TRUSTED, "login": "ann"}
    attempts: list[dict[str, Any]] = [
        plain,
        *(hub_comment(who=9, association=each) for each in ("MEMBER", "COLLABORATOR", "CONTRIBUTOR", "owner", "")),
        *(hub_comment(who=each) for each in ("47110", "04711", "14711")),
        plain | {"issue": plain["issue"] | {"user": owner, "author_association": "OWNER"}},
        plain | {"comment": plain["comment"] | {"body": f"@ann {APPROVAL}\nauthor_association: OWNER"}},
        plain | {"comment": plain["comment"] | {"user": owner}},
        hub_comment(who=4711, sender={"id": 9}),
        plain | {"approver": owner, "installation": {"account": owner}},
        hub_comment(APPROVAL.replace(COMMIT, "e" * 40), who=4711),
        hub_comment(APPROVAL.replace(COMMIT, COMMIT[:39]), who=4711),
    ]
    for number, payload in enumerate(attempts):
        answer = pushed.github(hook, payload | {"again": number}, event="issue_comment")
        assert (answer.status_code, answer.json["buildId"]) == (200, None), payload
    with monkeypatch.context() as without:
        without.setattr(push_approvals, "is_approver", lambda *_: True)
        assert pushed.github(hook, plain | {"again": "x"}, event="issue_comment").json["buildId"] is not None


def test_H1_no_pattern_keeps_the_server_busy() -> None:
    groups = [group(each("COMMIT_MESSAGE", "(a*)*(b|a)*c" * 20))]
    assert push_filters.group_faults(groups) == []
    assert not passes(groups, Happening("PUSH", TRUSTED, message="a" * 10_000))


def token_of(world: World, started: Build) -> IssuedToken:
    services = world.services
    access = BuildAccess(services.db, services.stores, services.accounts, services.formats, services.clock)
    return access.issue_token(started)


# --- H8 --------------------------------------------------------------------------------------------------------------

EVIL = "refs/heads/$(touch\\${IFS}pwned);`touch\\${IFS}pwned`"


@pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)
def test_H8_what_a_push_brings_reaches_commands_as_variables_only(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = "version: 0.2\nphases: {build: {commands: ['echo $CODEBUILD_WEBHOOK_HEAD_REF', 'test ! -e pwned']}}"
    reserved = {"CODEBUILD_WEBHOOK_HEAD_REF": "$(touch pwned)"}
    with work_directory() as place:
        executor = ProcessExecutor(ProcessSettings(place))
        outcome, log = build(executor, spec, reserved=reserved)
        assert outcome.status == "SUCCEEDED", log.text
        assert "$(touch pwned)" in log.output

        def substituted(script: str, *arguments: Any, **options: Any) -> Item:
            return Item(script.replace("$CODEBUILD_WEBHOOK_HEAD_REF", "$(touch pwned)"), *arguments, **options)

        monkeypatch.setattr(run, "Item", substituted)
        outcome, log = build(executor, spec, reserved=reserved)
        assert outcome.status == "FAILED", log.text


def test_H8_a_pushed_build_reads_the_projects_repository_and_no_more(pushed: Pushed) -> None:
    world = pushed.world
    started = pushed.build(pushed.github(pushed.hook("github"), hub_push(before="e" * 40)))
    issued = token_of(world, started)
    assert world.call("GET", "/domains/default/repositories/dev", token=issued.token).status_code == 200
    assert world.call("GET", "/domains/default/repositories/staging", token=issued.token).status_code in {403, 404}
    for method, path, body in [
        ("POST", "/build-projects/unit/builds", {}),
        ("POST", f"/builds/{started.id}/stop", None),
        ("POST", f"/builds/{started.id}/retry", None),
        ("PUT", "/build-projects/unit", {"document": "{repository: dev}"}),
        ("PUT", "/build-projects/unit/source-credential", {"authType": "PERSONAL_ACCESS_TOKEN", "token": "x"}),
    ]:
        assert world.call(method, path, token=issued.token, json=body).status_code == 403, path


def test_H8_who_may_not_publish_there_starts_nothing(pushed: Pushed) -> None:
    for who, status in (("reader", 403), ("promoter", 403), ("stranger", 404), ("publisher", 201), (None, 401)):
        answer = pushed.world.call("POST", "/build-projects/unit/builds", as_=who, json={})
        assert answer.status_code == status, who


# --- H9 --------------------------------------------------------------------------------------------------------------


def test_H9_a_build_that_publishing_started_can_publish_nothing(pushed: Pushed) -> None:
    """Loops by promotion end at a depth (tests/functional/test_pipeline_engine.py); a build itself has no way to begin one."""
    world = pushed.world
    started = pushed.build(pushed.github(pushed.hook("github"), hub_push(before="f" * 40)))
    issued = token_of(world, started)
    upload = {"name": "thing", "version": "1.0", ":action": "file_upload"}
    headers = {"Authorization": f"Bearer {issued.token}"}
    sent = world.http.post("/pypi/default/dev/", data=upload, headers=headers)
    assert sent.status_code == 403


# --- J3 --------------------------------------------------------------------------------------------------------------


def test_J3_a_delivery_counts_once_whatever_id_it_is_sent_under(
    pushed: Pushed, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = pushed.hook("github")
    payload = hub_push(before="1" * 40)
    first = pushed.github(hook, payload)
    for headers in ({}, {"X-GitHub-Delivery": "another"}):
        again = pushed.github(hook, payload, **headers).json
        assert (again["duplicate"], again["buildId"]) == (True, first.json["buildId"])
    monkeypatch.setattr(pushes, "repetition", lambda *_: None)
    monkeypatch.setattr(push_signatures, "_keys", lambda identifier, _body: (f"id:{identifier}",))
    assert pushed.github(hook, payload).json["buildId"] != first.json["buildId"]


def test_J3_signatures_are_over_the_bytes_as_they_came(pushed: Pushed) -> None:
    hook = pushed.hook("github")
    payload = hub_push(before="2" * 40)
    body = json.dumps(payload).encode()

    def send(sent: bytes, **headers: str) -> int:
        named = {"X-GitHub-Event": "push", "X-GitHub-Delivery": "j3"}
        return int(pushed.send(hook, sent, **named, **headers).status_code)

    def sha256(data: bytes, secret: str = hook["secret"]) -> str:
        return "sha256=" + hmac.new(secret.encode(), data, hashlib.sha256).hexdigest()

    sha1 = "sha1=" + hmac.new(hook["secret"].encode(), body, hashlib.sha1).hexdigest()
    for headers in (
        {},
        {"X-Hub-Signature": sha1},
        {"X-Hub-Signature-256": sha1},
        {"X-Hub-Signature-256": sha256(body, "wrong")},
        {"X-Hub-Signature-256": sha256(body)[7:]},
        {"X-Hub-Signature-256": sha256(json.dumps(payload, separators=(",", ":")).encode())},
    ):
        assert send(body, **headers) == 401, headers
    assert send(body[:-1], **{"X-Hub-Signature-256": sha256(body)}) == 401
    assert send(b"[" + body, **{"X-Hub-Signature-256": sha256(b"[" + body)}) == 400
    assert send(body, **{"X-Hub-Signature-256": sha256(body)}) == 200


def test_J3_the_secret_lies_sealed_and_bound_to_its_hook(pushed: Pushed) -> None:
    one, other = pushed.hook("gitlab"), pushed.hook("gitlab")
    with pushed.world.db.read() as session:
        rows = {row.id: row for row in session.scalars(select(pushes.PushHook))}
        assert one["secret"].encode() not in rows[one["id"]].sealed_secret
        rows[one["id"]].sealed_secret = rows[other["id"]].sealed_secret
        with pytest.raises(Damaged):
            pushes.secret_of(pushed.world.services.stores.server_keyring(), rows[one["id"]])
        session.expunge_all()
