"""A service in containers for tests: its documents, and its deployments by the engine's jobs on a clock that goes ahead."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from hooks.deployments.ending import STEP_KIND
from hooks.deployments.platforms.container.platform import ContainerPlatform
from hooks.deployments.request import DeploymentRequest
from hooks.deployments.targets import EVENT_KIND, UNDO_KIND
from hooks.models.deployment import DeploymentApplication, DeploymentEvent, DeploymentGroup, DeploymentTarget
from tests.fakes.deployments import World

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

MOST_WAITS = 100

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


def revision(
    image: str, release: str, *, program: str = PROGRAM, hooks: str = "", health: bool = True
) -> dict[str, Any]:
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
        "healthCheck": {"command": ["CMD-SHELL", "test ! -e /tmp/sick"] if health else ["NONE"]},
    }
    return {
        "revisionType": "AppSpecContent",
        "appSpecContent": {
            "sha256": "0" * 64,
            "content": APPSPEC + hooks,
            "taskDefinition": {"family": "shop", "containerDefinitions": [container]},
        },
    }


class Engine:
    """Deployments of one group, carried out by the engine's jobs. Its clock goes on to whatever is due next."""

    def __init__(self, world: World) -> None:
        self.world = world
        with world.db.write() as session:
            for application in session.scalars(select(DeploymentApplication)):
                application.compute_platform = "ECS"
            session.get_one(DeploymentGroup, world.group_id).document = dict(GROUP)
            session.get_one(DeploymentGroup, world.group_id).name = "live"

    @property
    def platform(self) -> ContainerPlatform:
        return self.world.parts.platforms["ECS"]  # type: ignore[return-value]

    def configure(self, **document: Any) -> None:
        with self.world.db.write() as session:
            session.get_one(DeploymentGroup, self.world.group_id).document = {**GROUP, **document}

    def begin(self, wanted: Mapping[str, Any], config: Mapping[str, Any]) -> str:
        """Make a deployment; its id."""
        assert list(self.platform.check_revision(wanted)) == []
        return self.world.create(DeploymentRequest(self.world.group_id, wanted, "ada", config=config))

    def go_on(self, until: Callable[[], bool] = lambda: False, between: Callable[[], None] = lambda: None) -> None:
        """Do everything that is due now or will be, ``between`` called each time that it waits; up to ``until``."""
        for _ in range(MOST_WAITS):
            self.world.work()
            waiting = self.world.queued(EVENT_KIND, UNDO_KIND)
            looks = [job for job in self.world.queued(STEP_KIND) if self._waits(job.payload["deployment_id"])]
            if until() or not (waiting or looks):
                return
            soonest = min((job.run_after for job in waiting), default=0.0) - time.time()
            between()
            time.sleep(0.05)
            if waiting:
                self.world.now += timedelta(seconds=max(0.0, soonest) + 0.5)
                self.world.hasten()
                for job in looks:
                    self.world.advance(job.payload["deployment_id"])
            else:
                for job in looks:
                    self.world.advance(job.payload["deployment_id"], seconds=60)
        raise AssertionError("it goes on and on")

    def _waits(self, deployment_id: str) -> bool:
        return self.world.deployment(deployment_id).wait_until is not None

    def run(self, wanted: Mapping[str, Any], config: Mapping[str, Any], **more: Any) -> str:
        """A deployment up to its end, and what it has to put right after that."""
        deployment = self.begin(wanted, config)
        self.go_on(**more)
        return deployment

    def failure(self, deployment: str) -> tuple[str, str, str]:
        """The event that failed, why, and the end of its log."""
        with self.world.db.read() as session:
            row = session.scalars(
                select(DeploymentEvent)
                .join(DeploymentTarget, DeploymentTarget.id == DeploymentEvent.target_id)
                .where(DeploymentTarget.deployment_id == deployment, DeploymentEvent.status == "Failed")
            ).one()
            return row.name, row.message, (row.sealed_log or b"").decode()
