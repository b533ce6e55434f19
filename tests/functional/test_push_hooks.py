"""Hooks of pushes over HTTP: who may make them, what proves a delivery, what becomes of it."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from hooks.models import Build
from tests.browser import reading
from tests.functional.api_world import World
from tests.unit.builds.test_push_filters import COMMIT, LAB_PUSH, hub_pull, hub_push

PROJECT = {
    "repository": "dev",
    "source": {"type": "GITHUB", "location": "https://forge.example/team/one.git"},
}


class Pushed:
    """A world with a project and a hook for each provider."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.count = 0
        put = world.call("PUT", "/build-projects/unit", json={"document": json.dumps(PROJECT)})
        assert put.status_code == 200, put.text

    def hook(self, provider: str, **more: Any) -> dict[str, Any]:
        made = self.world.call("POST", "/build-projects/unit/webhooks", json={"provider": provider, **more})
        assert made.status_code == 201, made.text
        return made.json

    def send(self, hook: dict[str, Any], body: bytes, **headers: str) -> Any:
        headers.setdefault("Content-Type", "application/json")
        return self.world.http.post(f"/hooks/v1/{hook['id']}", data=body, headers=headers)

    def github(self, hook: dict[str, Any], payload: Any, event: str = "push", **headers: str) -> Any:
        body = json.dumps(payload).encode()
        self.count += 1
        signature = "sha256=" + hmac.new(hook["secret"].encode(), body, hashlib.sha256).hexdigest()
        signed = {
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": f"delivery-{self.count}",
            "X-Hub-Signature-256": signature,
        }
        return self.send(hook, body, **signed | headers)

    def build(self, answer: Any) -> Build:
        assert answer.status_code == 200, answer.text
        assert answer.json["buildId"], answer.text
        with self.world.db.read() as session:
            return session.get_one(Build, answer.json["buildId"])


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    world = World(tmp_path_factory.mktemp("world"))
    yield Pushed(world)
    world.close()


def test_a_push_starts_a_build_of_its_commit(pushed: Pushed) -> None:
    hook = pushed.hook("github")
    build = pushed.build(pushed.github(hook, hub_push()))
    assert build.source["inputs"][0]["version"] == f"refs/heads/main^{{{COMMIT}}}"
    assert build.initiator == "github-webhook"
    assert build.webhook["CODEBUILD_WEBHOOK_TRIGGER"] == "branch/main"
    assert build.webhook["CODEBUILD_WEBHOOK_ACTOR_ACCOUNT_ID"] == "4711"


def test_each_provider_is_checked_by_its_own_rule(pushed: Pushed) -> None:
    gitlab = pushed.hook("gitlab")
    body, named = json.dumps(LAB_PUSH).encode(), {"X-Gitlab-Event": "Push Hook", "X-Gitlab-Event-UUID": "u1"}
    assert pushed.send(gitlab, body, **named).status_code == 401
    pushed.build(pushed.send(gitlab, body, **named, **{"X-Gitlab-Token": gitlab["secret"]}))
    gitea = pushed.hook("gitea")
    body = json.dumps(hub_push()).encode()
    signature = hmac.new(gitea["secret"].encode(), body, hashlib.sha256).hexdigest()
    named = {"X-Gitea-Event": "push", "X-Gitea-Delivery": "d1"}
    assert pushed.send(gitea, body, **named, **{"X-Gitea-Signature": signature[::-1]}).status_code == 401
    pushed.build(pushed.send(gitea, body, **named, **{"X-Gitea-Signature": signature}))


def test_a_plain_push_is_signed_as_standard_webhooks_are(pushed: Pushed) -> None:
    hook = pushed.hook("generic")
    body = json.dumps({"ref": "refs/heads/main", "after": COMMIT, "actorAccountId": "u"})

    def signed(identifier: str, ago: timedelta = timedelta()) -> Any:
        at = pushed.world.now - ago
        return pushed.send(
            hook,
            body.encode(),
            **{
                "webhook-id": identifier,
                "webhook-timestamp": str(int(at.timestamp())),
                "webhook-signature": Webhook(hook["secret"]).sign(identifier, at, body),
            },
        )

    assert signed("old", timedelta(minutes=6)).status_code == 401
    pushed.build(signed("new"))
    assert signed("new").json["duplicate"] is True


def test_what_no_filter_takes_is_answered_and_not_built(pushed: Pushed) -> None:
    hook = pushed.hook(
        "github", filterGroups=[[{"type": "EVENT", "pattern": "PUSH"}, {"type": "HEAD_REF", "pattern": "refs/tags/.*"}]]
    )
    answer = pushed.github(hook, hub_push())
    assert (answer.status_code, answer.json["buildId"], answer.json["outcome"]) == (
        200,
        None,
        "no filter group takes it",
    )
    assert pushed.github(hook, {"zen": "x"}, event="ping").status_code in {200, 400}
    refused = pushed.world.call(
        "POST",
        "/build-projects/unit/webhooks",
        json={"provider": "github", "filterGroups": [[{"type": "HEAD_REF", "pattern": "("}]]},
    )
    assert refused.status_code == 400
    assert "exactly one filter of type EVENT" in refused.json["detail"]


def test_a_forks_pull_request_waits_for_a_person(pushed: Pushed) -> None:
    groups = [[{"type": "EVENT", "pattern": "PULL_REQUEST_CREATED"}]]
    careful = pushed.hook("github", filterGroups=groups)
    answer = pushed.github(careful, hub_pull(), event="pull_request")
    assert (answer.json["buildId"], "pr/7" in answer.json["outcome"]) == (None, True)
    open_ = pushed.hook("github", filterGroups=groups, pullRequestBuildPolicy={"requiresCommentApproval": "DISABLED"})
    pushed.build(pushed.github(open_, hub_pull(), event="pull_request"))


def test_a_secret_is_told_once_and_can_be_renewed(pushed: Pushed) -> None:
    hook = pushed.hook("github")
    listed = pushed.world.call("GET", "/build-projects/unit/webhooks")
    assert hook["secret"] not in listed.text
    assert next(each for each in listed.json["items"] if each["id"] == hook["id"])["secret"] is None
    path = f"/build-projects/unit/webhooks/{hook['id']}"
    renewed = pushed.world.call("PATCH", path, json={"rotateSecret": True}).json
    assert pushed.github(hook, hub_push(before="c" * 40)).status_code == 401
    assert pushed.github(renewed, hub_push(before="c" * 40)).status_code == 200
    assert pushed.world.call("DELETE", path).status_code == 204
    assert pushed.github(renewed, hub_push(before="d" * 40)).status_code == 404


class Person:
    """Somebody at the project's page."""

    def __init__(self, pushed: Pushed) -> None:
        self.http = pushed.world.app.test_client()
        signed_in = self.http.post("/sign-in", data={"user": "admin", "password": "correct horse battery"})
        assert signed_in.status_code == 303

    def page(self) -> str:
        return self.http.get("/build-projects/unit").get_data(as_text=True)

    def send(self, path: str, status: int, **fields: str) -> str:
        token = re.findall(r'name="csrf_token" value="([^"]+)"', self.page())[0]
        answer = self.http.post(f"/build-projects/unit/webhooks{path}", data={"csrf_token": token, **fields})
        assert answer.status_code == status, answer.text
        return str(answer.text)


def test_a_hook_is_made_changed_renewed_and_deleted_on_the_projects_page(pushed: Pushed) -> None:
    person = Person(pushed)
    for hook in pushed.world.call("GET", "/build-projects/unit/webhooks").json["items"]:
        person.send(f"/{hook['id']}/delete", 303)
    groups = [[{"type": "EVENT", "pattern": "PUSH"}, {"type": "HEAD_REF", "pattern": "refs/heads/none"}]]
    for filters, words in (("[[", "cannot be read"), ('{"a": 1}', "list of lists"), ("[[{}]]", "exactly one filter")):
        refused = person.send("", 400, provider="github", filters=filters, accounts="4711")
        assert words in refused
        assert 'value="4711"' in refused  # what was typed is still there
    made = person.send("", 200, provider="github", approval="DISABLED", filters=json.dumps(groups))
    address, secret = (re.sub(r"<[^>]+>", "", each) for each in re.findall(r"<pre[^>]*><code>(.*?)</code>", made))
    hook = {"id": address.rpartition("/")[2], "secret": secret}
    assert pushed.github(hook, hub_push(before="1" * 40)).json["buildId"] is None
    assert secret not in person.page()

    person.send(f"/{hook['id']}", 303, filters='[[{"type": "EVENT", "pattern": "PUSH"}]]', accounts="7, 8")
    pushed.build(pushed.github(hook, hub_push(before="2" * 40)))
    (shown,) = pushed.world.call("GET", "/build-projects/unit/webhooks").json["items"]
    assert shown["pullRequestBuildPolicy"]["approverAccountIds"] == ["7", "8"]
    assert shown["pullRequestBuildPolicy"]["requiresCommentApproval"] == "DISABLED"

    # A change that is refused keeps what was typed in its own form, and opens no other one.
    refused = person.send(f"/{hook['id']}", 400, build_type="BUILD_BATCH", filters="[[", accounts="4712")
    forms = {form.attrib["action"].rpartition("/")[2]: form for form in reading.parse(refused).iter("form")}
    typed = {
        action: [each.attrib.get("value") for each in forms[action].iter("input") if each.attrib["name"] == "accounts"]
        for action in ("webhooks", hook["id"])
    }
    assert typed == {"webhooks": [""], hook["id"]: ["4712"]}
    assert [each.text for each in forms[hook["id"]].iter("textarea")] == ["[["]
    assert len(re.findall(r"<details[^>]* open", refused)) == 1

    renewed = person.send(f"/{hook['id']}/rotate", 200)
    assert pushed.github(hook, hub_push(before="3" * 40)).status_code == 401
    hook["secret"] = re.sub(r"<[^>]+>", "", re.findall(r"<pre[^>]*><code>(.*?)</code>", renewed)[1])
    pushed.build(pushed.github(hook, hub_push(before="4" * 40)))

    person.send(f"/{hook['id']}/delete", 303)
    assert pushed.github(hook, hub_push(before="5" * 40)).status_code == 404
