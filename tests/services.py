"""A service in containers for tests: its documents, and the events of a deployment one after the other, as an engine
has them carried out, on a clock of its own."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hooks.deployments.outcomes import EventResult, EventStatus
from hooks.deployments.platform import DeploymentFacts, Later, TargetPlan
from hooks.deployments.platforms.container.platform import ContainerPlatform

# It answers with the name of its release. A release called "tainted" is taken ill by its fourth request.
PROGRAM = """
import http.server, os, signal, sys, threading
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
release, count = os.environ["RELEASE"].encode(), [0]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        count[0] += self.path == "/"
        if release == b"tainted" and count[0] > 3:
            open("/tmp/sick", "w")
        self.send_response(200)
        self.send_header("Content-Length", str(len(release)))
        self.end_headers()
        self.wfile.write(release)
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("", 8080), Handler).serve_forever()
"""
CRASH = "import sys; print('no database'); sys.exit(3)"
ASK = "import urllib.request as u; print('says', u.urlopen('http://127.0.0.1:8080/x').read().decode())"

GROUP: Mapping[str, Any] = {
    "deploymentStyle": {"deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL"},
    "blueGreenDeploymentConfiguration": {"terminateBlueInstancesOnDeploymentSuccess": {"action": "TERMINATE"}},
    "containerHost": "docks",
    "ecsServices": [{"serviceName": "shop", "desiredCount": 2, "healthCheckGracePeriodSeconds": 120}],
    "loadBalancerInfo": {
        "targetGroupPairInfoList": [
            {
                "targetGroups": [{"name": "edge/blue"}, {"name": "edge/green"}],
                "prodTrafficRoute": {"listenerArns": ["edge/web"]},
            }
        ]
    },
    "hooks": {
        "smoke": {"command": ["python3", "-c", ASK], "timeoutSeconds": 60},
        "refuse": {"command": ["python3", "-c", "print('not today'); raise SystemExit(4)"]},
    },
}
CANARY = {
    "trafficRoutingConfig": {
        "type": "TimeBasedCanary",
        "timeBasedCanary": {"canaryPercentage": 25, "canaryInterval": 5},
    }
}
AT_ONCE = {"trafficRoutingConfig": {"type": "AllAtOnce"}}
APPSPEC = """
version: 0.0
Resources:
  - TargetService:
      Type: AWS::ECS::Service
      Properties:
        TaskDefinition: <TASK_DEFINITION>
        LoadBalancerInfo: {ContainerName: app, ContainerPort: 8080}
"""


def revision(image: str, release: str, *, program: str = PROGRAM, hooks: str = "") -> dict[str, Any]:
    """A revision that says ``release``."""
    container = {
        "name": "app",
        "image": image,
        "command": ["python3", "-u", "-c", program],
        "environment": [{"name": "RELEASE", "value": release}],
        "portMappings": [{"containerPort": 8080}],
        "memory": 96,
        "cpu": 512,
        "user": "1000",
        "readonlyRootFilesystem": True,
        "linuxParameters": {"tmpfs": [{"containerPath": "/tmp", "size": 1}]},
        "healthCheck": {"command": ["CMD-SHELL", "test ! -e /tmp/sick"]},
    }
    return {
        "revisionType": "AppSpecContent",
        "appSpecContent": {
            "content": APPSPEC + hooks,
            "taskDefinition": {"family": "shop", "containerDefinitions": [container]},
        },
    }


@dataclass
class Ticking:
    """A clock that goes on when it is told to."""

    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Course:
    """A deployment, and what has come of its events."""

    facts: DeploymentFacts
    target: TargetPlan
    results: dict[str, EventResult] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    @property
    def failed(self) -> EventResult | None:
        return next((result for result in self.results.values() if result.status is EventStatus.FAILED), None)


class Engine:
    """Has events carried out. ``between`` is called with a course and the answer after each call."""

    def __init__(self, platform: ContainerPlatform, clock: Ticking) -> None:
        self.platform, self.clock = platform, clock
        self._numbers = itertools.count(1)

    def begin(self, wanted: Mapping[str, Any], config: Mapping[str, Any], **facts: Any) -> Course:
        about = DeploymentFacts(
            **{
                "deployment_id": f"d-TEST{next(self._numbers):05}",
                "application": "shop",
                "domain": "default",
                "group_id": "5" * 32,
                "group_name": "live",
                "group": GROUP,
                "config": config,
                "revision": wanted,
                **facts,
            }
        )
        assert self.platform.check_group(about.group) == []
        assert list(self.platform.check_revision(about.revision)) == []
        return Course(about, self.platform.find_targets(None, about)[0])  # type: ignore[arg-type]

    def call(self, course: Course, event: str) -> EventResult | Later:
        """One call of an event."""
        return self.platform.carry_out(course.facts, course.target, event, lambda: False)

    def run(
        self,
        course: Course,
        *,
        before: str = "",
        between: Callable[[Course, str, Later], None] = lambda *_: None,
        twice: bool = False,
    ) -> Course:
        """All events in their order, up to one that fails, or that called ``before``."""
        for plan in self.platform.events(course.facts, course.target):
            if plan.name in course.results:
                continue
            if plan.name == before or course.failed:
                break
            self._event(course, plan.name, between)
            if twice and not course.failed:  # an engine that died before it could write the end down asks again
                self._event(course, plan.name, between)
        return course

    def _event(self, course: Course, event: str, between: Callable[[Course, str, Later], None]) -> None:
        while isinstance(answer := self.call(course, event), Later):
            self.wait(course, answer)
            between(course, event, answer)
        course.results[event] = answer

    def wait(self, course: Course, later: Later) -> None:
        course.target = replace(course.target, details=dict(later.details))
        course.said.append(later.message)
        self.clock.now += timedelta(seconds=later.seconds)
        time.sleep(min(later.seconds, 0.1))

    def undo(self, course: Course) -> None:
        """Until it has been put right."""
        while (later := self.platform.undo(course.facts, course.target)) is not None:
            self.wait(course, later)
