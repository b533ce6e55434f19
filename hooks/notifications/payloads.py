"""What an endpoint is sent of an event: as CloudEvents, as Amazon EventBridge has it, or as chat programs take it.

Every delivery is kept as CloudEvents (``envelope``); the other payloads are made of that when it is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hooks.notifications import telling
from hooks.notifications.envelope import CONTENT_TYPE

CLOUD_EVENTS, EVENT_BRIDGE, CHAT = "CloudEvents", "EventBridge", "Chat"
PAYLOADS = (CLOUD_EVENTS, EVENT_BRIDGE, CHAT)
_JSON = "application/json; charset=utf-8"
_PREFIX, _SUFFIX = "org.entrepot.", ".v1"

_SUBJECTS = {
    "execution": "CodePipeline Pipeline Execution State Change",
    "stage": "CodePipeline Stage Execution State Change",
    "action": "CodePipeline Action Execution State Change",
    "build": "CodeBuild Build State Change",
    "deployment": "CodeDeploy Deployment State-change Notification",
    "deployment-target": "CodeDeploy Instance State-change Notification",
}
_SOURCES = {"CodePipeline": "aws.codepipeline", "CodeBuild": "aws.codebuild", "CodeDeploy": "aws.codedeploy"}
_STATES = {"cancelled": "CANCELED", "retried": "RESUMED", "resumed": "RESUMED"}
_DEPLOYMENT_STATES = {
    "started": "START",
    "succeeded": "SUCCESS",
    "failed": "FAILURE",
    "stopped": "STOP",
    "ready": "READY",
}
_TRIGGERS = {
    "manual": "StartPipelineExecution",
    "event": "CloudWatchEvent",
    "object": "CloudWatchEvent",
    "schedule": "CloudWatchEvent",
    "push": "WebhookV2",
    "webhook": "Webhook",
    "invoke": "StartPipelineExecution",
    "rollback": "ManualRollback",
    "auto-rollback": "AutomatedRollback",
}
"""Kind of a trigger → CodePipeline's TriggerType (API reference, ExecutionTrigger)."""


def render(payload: str, body: str, base_url: str) -> tuple[str, bytes]:
    """The media type and the bytes of what is sent of a delivery's ``body``. ``base_url`` is where links lead."""
    if payload == EVENT_BRIDGE:
        return _JSON, _bytes(event_bridge(json.loads(body), base_url))
    if payload == CHAT:
        return _JSON, _bytes({"text": chat(json.loads(body), base_url)})
    return CONTENT_TYPE, body.encode()


def _bytes(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _kind(event: Mapping[str, Any]) -> str:
    return str(event["type"]).removeprefix(_PREFIX).removesuffix(_SUFFIX)


# --- chat ------------------------------------------------------------------------------------------------------------


def chat(event: Mapping[str, Any], base_url: str) -> str:
    """A line and a link, as incoming webhooks of chat programs take a ``text``.

    What others wrote (names, comments) becomes no markup and calls nobody: ``&``, ``<`` and ``>`` are escaped as Slack
    asks, and behind each ``@`` stands a character without width.
    """
    data = event["data"]
    told = telling.line(_kind(event), data)
    for character, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("@", "@\u200b")):
        told = told.replace(character, escaped)
    path = telling.page(data)
    return f"{told}\n{base_url}{path}" if path else told


# --- EventBridge -----------------------------------------------------------------------------------------------------


def event_bridge(event: Mapping[str, Any], base_url: str) -> dict[str, Any]:
    """The document that EventBridge has of such an event of CodePipeline, CodeBuild or CodeDeploy.

    What these services have no event for comes in the same envelope, with the kind as ``detail-type`` and its facts as
    ``detail``. ``account`` and ``region`` are empty: there are none. ``detail`` has the address of the page as ``url``.
    """
    kind, data = _kind(event), event["data"]
    subject, _, word = ("stage", "", "retried") if kind == "stage.retried" else kind.partition(".")
    detail_type = _SUBJECTS.get(subject, "")
    if kind == "approval.needed":
        subject, word, detail_type = "action", "started", _SUBJECTS["action"]
    detail = _detail(subject, word, data) if detail_type else dict(data)
    path = telling.page(data)
    return {
        "version": "0",
        "id": str(event["id"]),
        "detail-type": detail_type or kind,
        "source": _SOURCES.get(detail_type.partition(" ")[0], "entrepot"),
        "account": "",
        "time": event["time"],
        "region": "",
        "resources": [str(event["subject"])] if event.get("subject") else [],
        "detail": {**detail, **({"url": f"{base_url}{path}"} if path else {})},
    }


def _detail(subject: str, word: str, data: Mapping[str, Any]) -> dict[str, Any]:
    if subject == "build":
        return {
            "build-status": "IN_PROGRESS" if word == "started" else word.upper().replace("-", "_"),
            "project-name": data.get("project"),
            "build-id": data.get("build"),
            "additional-information": {
                "build-number": data.get("number"),
                "initiator": data.get("initiator"),
                "message": data.get("message") or "",
            },
        }
    if subject in {"deployment", "deployment-target"}:
        found = {
            "deploymentId": data.get("deployment"),
            "application": data.get("application"),
            "deploymentGroup": data.get("deployment_group"),
            "state": _DEPLOYMENT_STATES.get(word, word.upper()),
            "errorInformation": {"code": data.get("error"), "message": data.get("message") or ""},
        }
        return {**found, "instanceId": data.get("target")} if subject == "deployment-target" else found
    return _of_pipeline(subject, word, data)


def _of_pipeline(subject: str, word: str, data: Mapping[str, Any]) -> dict[str, Any]:
    detail = {
        "pipeline": data.get("pipeline"),
        "execution-id": str(data.get("execution")),
        "start-time": data.get("start_time"),
        "execution-trigger": {
            "trigger-type": _TRIGGERS.get(str(data.get("trigger")), "StartPipelineExecution"),
            "trigger-detail": data.get("started_by") or "",
        },
        "state": _STATES.get(word, word.upper()),
        "version": data.get("pipeline_version"),
        "pipeline-execution-attempt": data.get("attempt") or 1,
        "package": {
            name: data.get(name) for name in ("domain", "repository", "format", "namespace", "name", "version")
        },
    }
    if subject in {"stage", "action"}:
        detail["stage"] = data.get("stage")
    if subject == "action":
        detail |= {
            "action": data.get("action"),
            "type": {
                "owner": data.get("owner"),
                "category": data.get("category"),
                "provider": data.get("provider"),
                "version": "1",
            },
            "execution-result": {
                "external-execution-id": data.get("build") or data.get("deployment"),
                "external-execution-summary": data.get("summary") or "",
            },
        }
    return detail
