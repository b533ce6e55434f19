"""What a hook's deliveries start beside plain builds: batch builds, and what an approver's comment lets be built."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from hooks.models.build_batch import BuildBatch
from registry.models import AuditEntry
from tests.functional.api_world import World
from tests.functional.test_push_hooks import Pushed
from tests.unit.builds.test_push_comments import hub_comment, lab_note, tea_comment
from tests.unit.builds.test_push_filters import COMMIT, LAB_MERGE, hub_pull, hub_push


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    world = World(tmp_path_factory.mktemp("world"))
    yield Pushed(world)
    world.close()


def batch_of(pushed: Pushed, answer: Any) -> BuildBatch:
    with pushed.world.db.read() as session:
        return session.get_one(BuildBatch, answer["batchId"])


def test_a_hook_of_batches_starts_a_batch_build(pushed: Pushed) -> None:
    hook = pushed.hook("github", buildType="BUILD_BATCH")
    assert hook["buildType"] == "BUILD_BATCH"
    answer = pushed.github(hook, hub_push(before="4" * 40)).json
    assert (answer["outcome"], answer["buildId"]) == ("started", None)
    batch = batch_of(pushed, answer)
    assert batch.source["inputs"][0]["version"] == f"refs/heads/main^{{{COMMIT}}}"
    assert (batch.initiator, batch.webhook["CODEBUILD_WEBHOOK_TRIGGER"]) == ("github-webhook", "branch/main")
    assert pushed.github(hook, hub_push(before="4" * 40)).json["batchId"] == answer["batchId"]  # once
    path = f"/build-projects/unit/webhooks/{hook['id']}"
    assert pushed.world.call("PATCH", path, json={"buildType": "BUILD"}).json["buildType"] == "BUILD"
    pushed.build(pushed.github(hook, hub_push(before="5" * 40)))
    refused = pushed.world.call("PATCH", path, json={"buildType": "RUNNER"})
    assert (refused.status_code, "buildType: one of BUILD, BUILD_BATCH" in refused.text) == (400, True)


PULLS = [[{"type": "EVENT", "pattern": "PULL_REQUEST_CREATED, PULL_REQUEST_UPDATED"}]]
NEXT = "d" * 40


def waiting(pushed: Pushed, hook: dict[str, Any]) -> list[tuple[str, str]]:
    listed = pushed.world.call("GET", "/build-projects/unit/webhooks").json["items"]
    return [(each["trigger"], each["commit"]) for one in listed if one["id"] == hook["id"] for each in one["waiting"]]


def comments(pushed: Pushed, hook: dict[str, Any], commit: str = COMMIT, **more: Any) -> Any:
    pushed.count += 1
    payload = hub_comment(f"/codebuild_run({commit})", **more) | {"sent": pushed.count}
    return pushed.github(hook, payload, event="issue_comment")


def test_an_approvers_comment_lets_a_forks_pull_request_be_built(pushed: Pushed) -> None:
    policy = {"requiresCommentApproval": "FORK_PULL_REQUESTS", "approverAccountIds": ["12"]}
    hook = pushed.hook("github", filterGroups=PULLS, pullRequestBuildPolicy=policy)
    said = hook["pullRequestBuildPolicy"]
    assert said["approverRoles"] == ["GITHUB_WRITE", "GITHUB_MAINTAIN", "GITHUB_ADMIN"]
    told = pushed.github(hook, hub_pull(), event="pull_request").json["outcome"]
    assert f"/codebuild_run({COMMIT})" in told
    assert waiting(pushed, hook) == [("pr/7", COMMIT)]
    for answer, why in (
        (comments(pushed, hook, who=13), "not an approver's"),
        (comments(pushed, hook, who=13, association="MEMBER"), "not an approver's"),
        (comments(pushed, hook, NEXT, who=12), "at another commit"),
    ):
        assert (answer.status_code, answer.json["buildId"]) == (200, None)
        assert why in answer.json["outcome"]
    answer = comments(pushed, hook, who=12)
    assert answer.json["approvedBy"] == "12"
    build = pushed.build(answer)
    assert build.source["inputs"][0]["version"] == f"refs/pull/7/head^{{{COMMIT}}}"
    assert build.webhook["CODEBUILD_WEBHOOK_EVENT"] == "PULL_REQUEST_CREATED"
    assert build.webhook["CODEBUILD_WEBHOOK_ACTOR_ACCOUNT_ID"] == "4711"
    assert waiting(pushed, hook) == []
    assert "nothing of pr/7 waits" in comments(pushed, hook, who=12).json["outcome"]
    with pushed.world.db.read() as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.object == f"build/{build.id}")).one()
        assert entry.details["approved_by"] == "12"


def test_what_is_pushed_after_somebody_looked_waits_anew(pushed: Pushed) -> None:
    hook = pushed.hook("github", filterGroups=PULLS, buildType="BUILD_BATCH")
    pull = hub_pull()["pull_request"]
    pushed.github(hook, hub_pull(), event="pull_request")
    later = hub_pull(action="synchronize", pull_request=pull | {"head": pull["head"] | {"sha": NEXT}})
    pushed.github(hook, later, event="pull_request")
    assert "another commit" in comments(pushed, hook, association="OWNER").json["outcome"]
    answer = comments(pushed, hook, NEXT, association="OWNER").json
    assert (answer["buildId"], answer["approvedBy"]) == (None, "12")
    assert batch_of(pushed, answer).source["inputs"][0]["version"] == f"refs/pull/7/head^{{{NEXT}}}"
    pushed.github(hook, hub_pull(number=8), event="pull_request")
    assert waiting(pushed, hook) == [("pr/8", COMMIT)]
    pushed.github(hook, hub_pull(number=8, action="closed"), event="pull_request")
    assert waiting(pushed, hook) == []


def test_an_approvers_own_pull_request_is_built_by_itself(pushed: Pushed) -> None:
    policy = {"requiresCommentApproval": "ALL_PULL_REQUESTS", "approverRoles": [], "approverAccountIds": ["4711"]}
    hook = pushed.hook("github", filterGroups=PULLS, pullRequestBuildPolicy=policy)
    pull = hub_pull()["pull_request"]
    own = hub_pull(number=9, pull_request=pull | {"user": {"id": 4711}})
    pushed.build(pushed.github(hook, own, event="pull_request"))
    others = hub_pull(number=9, action="synchronize", pull_request=pull | {"user": {"id": 66}})
    assert pushed.github(hook, others, event="pull_request").json["buildId"] is None
    assert "not an approver's" in comments(pushed, hook, association="OWNER").json["outcome"]


def test_comments_of_gitlab_and_gitea_count_by_what_those_tell(pushed: Pushed) -> None:
    gitlab = pushed.hook("gitlab", filterGroups=PULLS, pullRequestBuildPolicy={"approverAccountIds": ["12"]})
    merge = LAB_MERGE | {"object_attributes": LAB_MERGE["object_attributes"] | {"source_project_id": 5}}

    def lab(event: str, payload: Any) -> Any:
        pushed.count += 1
        named = {"X-Gitlab-Event": event, "X-Gitlab-Event-UUID": f"n{pushed.count}", "X-Gitlab-Token": gitlab["secret"]}
        return pushed.send(gitlab, json.dumps(payload).encode(), **named)

    assert lab("Merge Request Hook", merge).json["buildId"] is None
    assert "not an approver's" in lab("Note Hook", lab_note(who=4)).json["outcome"]
    assert pushed.build(lab("Note Hook", lab_note())).webhook["CODEBUILD_WEBHOOK_TRIGGER"] == "pr/3"

    gitea = pushed.hook("gitea", filterGroups=PULLS)

    def tea(event: str, payload: Any) -> Any:
        pushed.count += 1
        body = json.dumps(payload).encode()
        signature = hmac.new(gitea["secret"].encode(), body, hashlib.sha256).hexdigest()
        named = {"X-Gitea-Event": event, "X-Gitea-Delivery": f"t{pushed.count}", "X-Gitea-Signature": signature}
        return pushed.send(gitea, body, **named)

    assert tea("pull_request", hub_pull()).json["buildId"] is None
    assert "not an approver's" in tea("issue_comment", tea_comment(pull=True)).json["outcome"]
    pushed.build(tea("issue_comment", tea_comment(pull=True, push=True, admin=False)))


def test_a_policy_that_cannot_be_meant_is_refused(pushed: Pushed) -> None:
    policy = {"requiresCommentApproval": "SOME", "approverRoles": ["GITHUB_KING"], "approverAccountIds": ["a b"]}
    body = {"provider": "github", "pullRequestBuildPolicy": policy}
    refused = pushed.world.call("POST", "/build-projects/unit/webhooks", json=body)
    assert refused.status_code == 400
    for word in ("requiresCommentApproval: one of", "GITHUB_KING", "approverAccountIds"):
        assert word in refused.json["detail"]
