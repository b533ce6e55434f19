"""Drivers of the routes of pipelines, builds and notifications."""

import re

from sqlalchemy import select, update

from hooks.models import Build, MailMessage, StoredValue, WebhookDelivery
from hooks.notifications.mail_addresses import ASK_EVERY
from tests.functional.test_hooks_api import CONNECTION, CREDENTIAL, GATED, HOOK, LOCATED, PROJECT, PUSHED, START, action
from tests.security.audit_stage import API, Ask, Stage, drive, drives
from tests.unit.builds.test_push_filters import LAB_PUSH

# --- pipelines and builds


def _waiting(stage: Stage) -> int:
    return int(stage.start()["id"])


def _stopped(stage: Stage) -> int:
    number = _waiting(stage)
    rejected = stage.answer({"id": number}, verdict="Rejected")
    assert rejected.status_code == 200, rejected.text
    return number


def _build(stage: Stage) -> str:
    return str(action(stage.start("built"), "Test", "Unit")["buildId"])


def _ended(stage: Stage) -> str:
    build = _build(stage)
    stage.done("POST", f"/builds/{build}/stop")
    return build


def _standing(stage: Stage) -> str:
    build = _build(stage)
    with stage.db.write() as session:
        session.get_one(Build, build).paused_at = stage.now
    return build


def _project(stage: Stage) -> str:
    name = stage.name("project")
    stage.done("PUT", f"/build-projects/{name}", {"document": PROJECT.replace("mine", name)})
    return name


def _batch(stage: Stage) -> str:
    return str(stage.done("POST", f"/build-projects/{_project(stage)}/batches", {})["id"])


def _failed_batch(stage: Stage) -> str:
    batch = _batch(stage)
    (first,) = stage.done("GET", f"/build-batches/{batch}")["buildGroups"]
    stage.done("POST", f"/builds/{first['currentBuildSummary']['id']}/stop")
    return batch


def _push_hook(stage: Stage, project: str) -> dict[str, str]:
    hook: dict[str, str] = stage.done("POST", f"/build-projects/{project}/webhooks", {"provider": "gitlab"})
    stage.secrets.add(hook["secret"])
    return hook


drive(
    f"PUT {API}/declarations",
    lambda s: s.api("/declarations", {"files": [{"name": "a.yml", "text": f"repository: {s.name('declared')}"}]}),
)
drive(
    f"PUT {API}/pipelines",
    lambda s: s.api("/pipelines", {"document": GATED.replace("name: release", f"name: {s.name('pipe')}")}),
)
drive(f"POST {API}/pipelines/<pipeline>/executions", lambda s: s.api("/pipelines/release/executions", START))
drive(
    f"POST {API}/executions/<id:execution_id>/approval",
    lambda s: s.api(f"/executions/{_waiting(s)}/approval", {"stage": "Gate", "action": "Ask", "verdict": "Approved"}),
)
drive(
    f"POST {API}/executions/<id:execution_id>/retry",
    lambda s: s.api(f"/executions/{_stopped(s)}/retry", {"stage": "Gate"}),
)


def _rolled_back_to(stage: Stage) -> tuple[str, int]:
    """A pipeline whose stages go one by one, and an execution that has succeeded in its stage Gate."""
    name = stage.name("serial")
    document = GATED.replace("name: release", f"name: {name}\nexecutionMode: QUEUED")
    stage.done("PUT", "/pipelines", {"document": document})
    execution = stage.start(name)
    stage.answer(execution)
    return name, int(execution["id"])


drive(
    f"POST {API}/executions/<id:execution_id>/rollback",
    lambda s: s.api(f"/executions/{_rolled_back_to(s)[1]}/rollback", {"stage": "Gate"}),
)
drive(
    "POST /executions/<int:execution_id>/rollback",
    lambda s: s.form(f"/executions/{_rolled_back_to(s)[1]}/rollback", stage="Gate"),
)
drive(
    f"POST {API}/pipelines/<pipeline>/transition",
    lambda s: s.api(
        f"/pipelines/{_rolled_back_to(s)[0]}/transition", {"stage": "Prod", "enabled": False, "reason": "freeze"}
    ),
)
drive(
    "POST /pipelines/<name>/transition",
    lambda s: s.form(f"/pipelines/{_rolled_back_to(s)[0]}/transition", stage="Prod", to="closed", reason="freeze"),
)
_HELD = """
executionMode: QUEUED
name: {name}
stages:
- name: Source
  actions:
  - {{name: P, actionTypeId: {{category: Source, owner: Entrepot, provider: Package}}, namespace: src,
     configuration: {{Repository: dev, Format: pypi, Name: my-pkg}}}}
- name: Gate
  beforeEntry: {{conditions: [{{result: FAIL, rules: [{{name: V,
    ruleTypeId: {{category: Rule, owner: AWS, provider: VariableCheck}},
    configuration: {{Variable: "#{{src.Version}}", Value: nothing, Operator: EQ}}}}]}}]}}
  actions: [{{name: Ask, actionTypeId: {{category: Approval, provider: Manual}}}}]
"""


def _kept_out(stage: Stage) -> int:
    """An execution whose stage its condition has failed."""
    name = stage.name("conditions")
    stage.done("PUT", "/pipelines", {"document": _HELD.format(name=name)})
    return int(stage.start(name)["id"])


def _frozen(stage: Stage) -> int:
    """An execution that waits before a frozen stage."""
    name = stage.name("frozen")
    stage.done("PUT", "/pipelines", {"document": _HELD.format(name=name)})
    freeze = {"name": name, "pipeline": name, "reason": "x", "endsAt": "2999-01-01T00:00:00Z"}
    stage.done("POST", "/freezes", freeze)
    return int(stage.start(name)["id"])


def _held(stage: Stage) -> str:
    """A pipeline with a stage that was rolled back by hand."""
    name, execution = _rolled_back_to(stage)
    stage.done("POST", f"/executions/{execution}/rollback", {"stage": "Gate"})
    return name


def _freeze(stage: Stage, pipeline: str | None = None) -> str:
    name = stage.name("freeze")
    stage.done(
        "POST", "/freezes", {"name": name, "pipeline": pipeline, "reason": "x", "endsAt": "2999-01-01T00:00:00Z"}
    )
    return name


_OVERRIDE = {"stage": "Gate", "reason": "x"}
drive(
    f"POST {API}/executions/<id:execution_id>/override",
    lambda s: s.api(f"/executions/{_kept_out(s)}/override", {**_OVERRIDE, "conditionType": "BEFORE_ENTRY"}),
)
drive(
    "POST /executions/<int:execution_id>/override",
    lambda s: s.form(f"/executions/{_kept_out(s)}/override", **_OVERRIDE, condition="BEFORE_ENTRY"),
)
drive(
    f"POST {API}/executions/<id:execution_id>/pass",
    lambda s: s.api(f"/executions/{_frozen(s)}/pass", {"reason": "x"}),
)
drive("POST /executions/<int:execution_id>/pass", lambda s: s.form(f"/executions/{_frozen(s)}/pass", reason="x"))
drive(f"POST {API}/pipelines/<pipeline>/release", lambda s: s.api(f"/pipelines/{_held(s)}/release", {"stage": "Gate"}))
drive("POST /pipelines/<name>/release", lambda s: s.form(f"/pipelines/{_held(s)}/release", stage="Gate"))
drive(
    f"POST {API}/freezes",
    lambda s: s.api(
        "/freezes",
        {"name": s.name("freeze"), "pipeline": _rolled_back_to(s)[0], "reason": "x", "endsAt": "2999-01-01T00:00:00Z"},
    ),
)
drive(f"DELETE {API}/freezes/<name>", lambda s: s.api(f"/freezes/{_freeze(s, _rolled_back_to(s)[0])}"))
drive(
    "POST /pipelines/<name>/freeze",
    lambda s: s.form(
        f"/pipelines/{_rolled_back_to(s)[0]}/freeze", freeze=s.name("freeze"), reason="x", ends_at="2999-01-01T00:00"
    ),
)


def _thawed(stage: Stage) -> Ask:
    name = _rolled_back_to(stage)[0]
    return stage.form(f"/pipelines/{name}/unfreeze", freeze=_freeze(stage, name))


drive("POST /pipelines/<name>/unfreeze", _thawed)
drive(f"POST {API}/executions/<id:execution_id>/stop", lambda s: s.api(f"/executions/{_waiting(s)}/stop", {}))
drive(f"POST {API}/builds/<build_id>/stop", lambda s: s.api(f"/builds/{_build(s)}/stop"))
drive(f"POST {API}/builds/<build_id>/retry", lambda s: s.api(f"/builds/{_ended(s)}/retry"))
drive("POST /builds/<build_id>/retry", lambda s: s.form(f"/builds/{_ended(s)}/retry"))
drive(f"POST {API}/builds/<build_id>/resume", lambda s: s.api(f"/builds/{_standing(s)}/resume"))
drive("POST /builds/<build_id>/resume", lambda s: s.form(f"/builds/{_standing(s)}/resume"))
drive("POST /builds/<build_id>/stop", lambda s: s.form(f"/builds/{_build(s)}/stop"))
drive("POST /executions/<int:execution_id>/stop", lambda s: s.form(f"/executions/{_waiting(s)}/stop", reason="wrong"))
drive(
    "POST /executions/<int:execution_id>/retry",
    lambda s: s.form(f"/executions/{_stopped(s)}/retry", stage="Gate", mode="FAILED_ACTIONS"),
)


@drives(f"PUT {API}/build-projects/<project>")
def _put_project(stage: Stage) -> Ask:
    name = stage.name("project")
    return stage.api(f"/build-projects/{name}", {"document": PROJECT.replace("mine", name)})


drive(f"DELETE {API}/build-projects/<project>", lambda s: s.api(f"/build-projects/{_project(s)}"))


@drives(f"PUT {API}/build-projects/<project>/source-credential")
def _credential(stage: Stage) -> Ask:
    stage.secrets.add(CREDENTIAL["token"])
    return stage.api(f"/build-projects/{_project(stage)}/source-credential", CREDENTIAL)


@drives(f"DELETE {API}/build-projects/<project>/source-credential")
def _forget_credential(stage: Stage) -> Ask:
    path = f"/build-projects/{_project(stage)}/source-credential"
    stage.done("PUT", path, CREDENTIAL)
    return stage.api(path)


@drives(f"POST {API}/build-sources")
def _upload(stage: Stage) -> Ask:
    headers = {"Content-Type": "application/zip"}
    path = f"{API}/build-sources?project={_project(stage)}"
    return stage.client(path, data=b"PK\x05\x06" + bytes(18), headers=headers)


drive(f"POST {API}/build-projects/<project>/builds", lambda s: s.api(f"/build-projects/{_project(s)}/builds", {}))
drive(f"POST {API}/build-projects/<project>/batches", lambda s: s.api(f"/build-projects/{_project(s)}/batches", {}))
drive("POST /build-projects/<name>/start-batch", lambda s: s.form(f"/build-projects/{_project(s)}/start-batch"))
drive(f"POST {API}/build-batches/<batch_id>/stop", lambda s: s.api(f"/build-batches/{_batch(s)}/stop"))
drive("POST /build-batches/<batch_id>/stop", lambda s: s.form(f"/build-batches/{_batch(s)}/stop"))
drive(f"POST {API}/build-batches/<batch_id>/retry", lambda s: s.api(f"/build-batches/{_failed_batch(s)}/retry", {}))
drive("POST /build-batches/<batch_id>/retry", lambda s: s.form(f"/build-batches/{_failed_batch(s)}/retry"))
drive("POST /build-projects/<name>/start", lambda s: s.form(f"/build-projects/{_project(s)}/start"))
drive(
    f"POST {API}/build-projects/<project>/webhooks",
    lambda s: s.api(f"/build-projects/{_project(s)}/webhooks", {"provider": "github"}),
)


@drives(f"PATCH {API}/build-projects/<project>/webhooks/<hook_id>")
def _change_push_hook(stage: Stage) -> Ask:
    project = _project(stage)
    hook = _push_hook(stage, project)
    return stage.api(f"/build-projects/{project}/webhooks/{hook['id']}", {"rotateSecret": True})


@drives(f"DELETE {API}/build-projects/<project>/webhooks/<hook_id>")
def _delete_push_hook(stage: Stage) -> Ask:
    project = _project(stage)
    return stage.api(f"/build-projects/{project}/webhooks/{_push_hook(stage, project)['id']}")


def _hook_page(stage: Stage) -> str:
    project = _project(stage)
    return f"/build-projects/{project}/webhooks/{_push_hook(stage, project)['id']}"


HOOK_PAGE = "/build-projects/<name>/webhooks"
drive(f"POST {HOOK_PAGE}", lambda s: s.form(f"/build-projects/{_project(s)}/webhooks", provider="gitea"))
drive(f"POST {HOOK_PAGE}/<hook_id>", lambda s: s.form(_hook_page(s), build_type="BUILD_BATCH"))
for _word in ("rotate", "delete"):
    drive(f"POST {HOOK_PAGE}/<hook_id>/{_word}", lambda s, word=_word: s.form(f"{_hook_page(s)}/{word}"))


@drives("POST /hooks/v1/<hook_id>")
def _push(stage: Stage) -> Ask:
    hook = _push_hook(stage, _project(stage))
    headers = {"X-Gitlab-Token": hook["secret"], "X-Gitlab-Event": "Push Hook", "X-Gitlab-Event-UUID": stage.name("u")}
    return Ask(f"/hooks/v1/{hook['id']}", options={"json": LAB_PUSH, "headers": headers})


def _connection(stage: Stage) -> str:
    name = stage.name("forge")
    stage.done("PUT", f"/git-connections/{name}", CONNECTION)
    return f"/git-connections/{name}"


drive(f"PUT {API}/git-connections/<connection>", lambda s: s.api(f"/git-connections/{s.name('forge')}", CONNECTION))


def _bucket(stage: Stage) -> str:
    name = stage.name("bucket").replace("_", "-")
    stage.done("PUT", f"/source-buckets/{name}", {"repository": "dev"})
    return f"/source-buckets/{name}"


drive(
    f"PUT {API}/source-buckets/<bucket>", lambda s: s.api(f"/source-buckets/{s.name('bucket')}", {"repository": "dev"})
)
drive(f"DELETE {API}/source-buckets/<bucket>", lambda s: s.api(_bucket(s)))
drive(f"PUT {API}/source-buckets/<bucket>/objects/<path:key>", lambda s: s.api(f"{_bucket(s)}/objects/site.zip"))
drive(f"DELETE {API}/git-connections/<connection>", lambda s: s.api(_connection(s)))


def _pipeline_hook(stage: Stage) -> tuple[str, dict[str, str]]:
    name = stage.name("pushed")
    stage.done("PUT", "/pipelines", {"document": PUSHED.replace("name: pushed", f"name: {name}")})
    hook: dict[str, str] = stage.done("POST", f"/pipelines/{name}/webhooks", {"provider": "gitlab"})
    stage.secrets.add(hook["secret"])
    return f"/pipelines/{name}/webhooks", hook


drive(
    f"POST {API}/pipelines/<pipeline>/webhooks",
    lambda s: s.api(_pipeline_hook(s)[0], {"provider": "github"}),
)


@drives(f"DELETE {API}/pipelines/<pipeline>/webhooks/<hook_id>")
def _delete_pipeline_hook(stage: Stage) -> Ask:
    path, hook = _pipeline_hook(stage)
    return stage.api(f"{path}/{hook['id']}")


@drives(f"DELETE {API}/pipelines/<pipeline>/definition-source")
def _detach(stage: Stage) -> Ask:
    name = stage.name("located")
    stage.done("PUT", "/pipelines", {"document": LOCATED.replace("name: located", f"name: {name}")})
    return stage.api(f"/pipelines/{name}/definition-source")


@drives("POST /hooks/v1/pipelines/<hook_id>")
def _push_to_pipeline(stage: Stage) -> Ask:
    _, hook = _pipeline_hook(stage)
    headers = {"X-Gitlab-Token": hook["secret"], "X-Gitlab-Event": "Push Hook", "X-Gitlab-Event-UUID": stage.name("u")}
    return Ask(f"/hooks/v1/pipelines/{hook['id']}", options={"json": LAB_PUSH, "headers": headers})


@drives("POST /executions/<int:execution_id>/approval")
def _approve_form(stage: Stage) -> Ask:
    execution = stage.start()
    token = action(stage.call("GET", f"/executions/{execution['id']}").json, "Gate", "Ask").get("token", "")
    return stage.form(
        f"/executions/{execution['id']}/approval", stage="Gate", action="Ask", verdict="Approved", token=token or ""
    )


drive(
    "POST /pipelines/<name>/start",
    lambda s: s.form("/pipelines/release/start", repository="dev", package="my-pkg", version="1.0"),
)


# --- parameters and secrets


def _kept(stage: Stage, kind: str = "secrets") -> str:
    path = f"/{kind}/{stage.name('kept')}"
    value = f"value-of-{path}"
    stage.secrets.add(value)
    stage.done("PUT", path, {"secretString": value} if kind == "secrets" else {"value": value})
    return path


def _row(stage: Stage) -> str:
    name = _kept(stage).rpartition("/")[2]
    with stage.db.read() as session:
        return f"/secrets/{session.scalars(select(StoredValue.id).where(StoredValue.name == name)).one()}"


def _advisory(stage: Stage) -> str:
    name = stage.name("advisory")
    affected = [{"package": {"ecosystem": "PyPI", "name": "x"}, "versions": ["1"]}]
    stage.done("POST", "/advisories", {"documents": [{"id": name, "modified": "2026-01-01", "affected": affected}]})
    return name


def _newer(stage: Stage) -> dict[str, object]:
    return {"documents": [{"id": _advisory(stage), "modified": "2026-02-01", "affected": []}]}


drive(f"POST {API}/advisories", lambda s: s.api("/advisories", _newer(s)))
drive(f"DELETE {API}/advisories/<advisory>", lambda s: s.api(f"/advisories/{_advisory(s)}"))

PLACE = {"format": "npm", "url": "https://registry.example/npm/", "repositories": ["default/prod"]}
DESTINATION = f"{API}/destinations/<destination>"


def _destination(stage: Stage) -> str:
    path, secret = f"/destinations/{stage.name('place')}", stage.name("secret-of-place")
    stage.secrets.add(secret)
    stage.done("PUT", path, {**PLACE, "user": "bot", "secret": secret})
    return path


drive(f"PUT {DESTINATION}", lambda s: s.api(_destination(s), {**PLACE, "noCredential": True}))
drive(f"DELETE {DESTINATION}", lambda s: s.api(_destination(s)))
drive("POST /destinations", lambda s: s.form("/destinations", name=s.name("place"), secret="typed in", **{
    **PLACE, "repositories": "default/prod"}))  # fmt: skip
drive("POST /destinations/<destination>/delete", lambda s: s.form(f"{_destination(s)}/delete"))

SECRET, PARAMETER = f"{API}/secrets/<path:value_name>", f"{API}/parameters/<path:value_name>"
drive(f"PUT {SECRET}", lambda s: s.api(_kept(s), {"secretString": "a fresh one"}))
drive(f"PATCH {SECRET}", lambda s: s.api(_kept(s), {"description": "another"}))
drive(f"DELETE {SECRET}", lambda s: s.api(_kept(s)))
drive(f"POST {API}/secret-values", lambda s: s.api("/secret-values", {"secretId": _kept(s).removeprefix("/secrets/")}))
drive(f"PUT {PARAMETER}", lambda s: s.api(_kept(s, "parameters"), {"value": "a fresh one"}))
drive(f"PATCH {PARAMETER}", lambda s: s.api(_kept(s, "parameters"), {"description": "another"}))
drive(f"DELETE {PARAMETER}", lambda s: s.api(_kept(s, "parameters")))
drive(
    f"POST {API}/parameter-values",
    lambda s: s.api("/parameter-values", {"name": _kept(s, "parameters").removeprefix("/parameters/")}),
)
drive("POST /secrets", lambda s: s.form("/secrets", name=s.name("made"), value="typed in", kind="secret"))
drive("POST /secrets/<int:value_id>/value", lambda s: s.form(f"{_row(s)}/value", value="typed in"))
drive("POST /secrets/<int:value_id>/about", lambda s: s.form(f"{_row(s)}/about", description="another"))
drive("POST /secrets/<int:value_id>/delete", lambda s: s.form(f"{_row(s)}/delete"))


# --- webhooks


def _webhook(stage: Stage) -> str:
    made = stage.done("POST", "/webhooks", HOOK)
    stage.secrets.add(made["secret"])
    return f"/webhooks/{made['webhook']['id']}"


def _failed(stage: Stage) -> tuple[str, str]:
    """A webhook, and a delivery of it that failed."""
    webhook = _webhook(stage)
    delivery = stage.done("POST", f"{webhook}/ping")["delivery"]
    with stage.db.write() as session:
        session.execute(update(WebhookDelivery).where(WebhookDelivery.id == delivery).values(state="Failed"))
    return webhook, f"{webhook}/deliveries/{delivery}"


def _off(stage: Stage) -> str:
    webhook = _webhook(stage)
    stage.done("POST", f"{webhook}/disable")
    return webhook


ONE, PAGE_OF_ONE = f"{API}/webhooks/<id:webhook>", "/webhooks/<int:webhook_id>"
SINCE = {"since": "2026-01-01T00:00:00Z"}
FIELDS = {"url": "https://hooks.example/", "domain": "default", "kinds": "*"}
drive(f"POST {API}/webhooks", lambda s: s.api("/webhooks", HOOK))
drive(f"PATCH {ONE}", lambda s: s.api(_webhook(s), {"kinds": ["asset.*"]}))
drive(f"DELETE {ONE}", lambda s: s.api(_webhook(s)))
drive(f"POST {ONE}/secret", lambda s: s.api(f"{_webhook(s)}/secret", {}))
drive(f"POST {ONE}/ping", lambda s: s.api(f"{_webhook(s)}/ping"))
drive(f"POST {ONE}/disable", lambda s: s.api(f"{_webhook(s)}/disable"))
drive(f"POST {ONE}/enable", lambda s: s.api(f"{_off(s)}/enable"))
drive(f"POST {ONE}/deliveries", lambda s: s.api(f"{_failed(s)[0]}/deliveries", SINCE))
drive(f"POST {ONE}/deliveries/<delivery>", lambda s: s.api(_failed(s)[1]))
drive("POST /webhooks", lambda s: s.form("/webhooks", **FIELDS))
drive(f"POST {PAGE_OF_ONE}", lambda s: s.form(_webhook(s), **{**FIELDS, "kinds": "asset.*"}))
for _word in ("delete", "disable", "ping", "rotate"):
    drive(f"POST {PAGE_OF_ONE}/{_word}", lambda s, word=_word: s.form(f"{_webhook(s)}/{word}"))
drive(f"POST {PAGE_OF_ONE}/enable", lambda s: s.form(f"{_off(s)}/enable"))
drive(f"POST {PAGE_OF_ONE}/redeliver", lambda s: s.form(f"{_failed(s)[0]}/redeliver"))
drive(
    f"POST {PAGE_OF_ONE}/deliveries/<delivery_id>/redeliver",
    lambda s: s.form(f"{_failed(s)[1]}/redeliver"),
)


# --- mails


def _subscription(stage: Stage) -> int:
    return int(stage.done("POST", "/subscriptions", {"kinds": ["asset.*"]})["id"])


ADDRESS = "ada@people.example"
NOTIFICATIONS = "/account/notifications"
drive(f"POST {API}/subscriptions", lambda s: s.api("/subscriptions", {"kinds": ["asset.*"]}))
drive(f"DELETE {API}/subscriptions/<id:subscription>", lambda s: s.api(f"/subscriptions/{_subscription(s)}"))
drive(f"POST {NOTIFICATIONS}", lambda s: s.form(NOTIFICATIONS, kinds="asset.*"))
drive(
    f"POST {NOTIFICATIONS}/<int:subscription_id>/remove",
    lambda s: s.form(f"{NOTIFICATIONS}/{_subscription(s)}/remove"),
)


def _with_address(stage: Stage) -> str:
    """Somebody who asked for mails lately, and whose link was not opened yet."""
    user = stage.person()
    ask = stage.form(f"{NOTIFICATIONS}/address", user, address=ADDRESS)
    assert stage.do("POST", ask).status_code == 303
    return user


drive(f"POST {NOTIFICATIONS}/address", lambda s: s.form(f"{NOTIFICATIONS}/address", s.person(), address=ADDRESS))
drive(
    f"PUT {API}/mail-address",
    lambda s: Ask(f"{API}/mail-address", s.token(s.person(), "read"), options={"json": {"address": ADDRESS}}),
)


@drives(f"POST {NOTIFICATIONS}/confirm")
def _confirm(stage: Stage) -> Ask:
    user = _with_address(stage)
    with stage.db.read() as session:
        body = session.scalars(select(MailMessage.body).order_by(MailMessage.id.desc())).first()
    code = re.search(r"code=(\S+)", body or "")
    assert code is not None
    stage.secrets.add(code[1])
    return stage.form(f"{NOTIFICATIONS}/confirm", user, code=code[1])


@drives(f"POST {NOTIFICATIONS}/address/remove")
def _forget(stage: Stage) -> Ask:
    user = _with_address(stage)
    stage.now += ASK_EVERY
    return stage.form(f"{NOTIFICATIONS}/address/remove", user)


@drives(f"DELETE {API}/mail-address")
def _forget_by_api(stage: Stage) -> Ask:
    user = _with_address(stage)
    stage.now += ASK_EVERY
    return Ask(f"{API}/mail-address", stage.token(user, "read"))
