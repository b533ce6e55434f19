"""The action that deploys: what was pinned goes to a group, by the rows of deployments, and the action follows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from hooks.deployments import engine, jobs
from hooks.deployments.parts import Parts as DeploymentParts
from hooks.deployments.platform import Later
from hooks.deployments.platforms.dummy import DummyPlatform, failed
from hooks.deployments.targets import QUEUE
from hooks.jobs import claims
from hooks.jobs.attempt import Attempt
from hooks.models.deployment import Deployment, DeploymentApplication, DeploymentGroup
from hooks.models.job import Job
from hooks.notifications.audience import Audience
from hooks.pipelines.actions import timeouts
from hooks.pipelines.approvals import Verdict, decide
from hooks.pipelines.deploy_jobs import on_deployment_ended
from hooks.pipelines.deployer import PipelineDeployer
from hooks.pipelines.pipeline_state import get_pipeline_state
from hooks.pipelines.rollback import rollback_stage
from hooks.pipelines.steering import RetryMode, retry_stage, stop_execution
from registry.accounts import Accounts, SignInRules
from registry.models import Account
from registry.rulebook import Rulebooks
from tests import postgres
from tests.fakes.deployments import PlainSealer
from tests.fakes.pipelines import World, approval, new_world, pipeline, stage

SHORT = ["BeforeInstall", "ApplicationStart"]


def deploy(name: str = "Ship", *, group: str = "prod", more: str = "", extra: str = "") -> str:
    return (
        f"    - name: {name}\n      configuration: {{ApplicationName: shop, DeploymentGroupName: {group}{more}}}\n"
        f"      actionTypeId: {{category: Deploy, owner: AWS, provider: CodeDeploy, version: '1'}}\n{extra}"
    )


class Deploying:
    """A world of pipelines with an application whose targets exist in its group's document alone."""

    def __init__(self, world: World) -> None:
        self.world, self.platform = world, DummyPlatform()
        self.parts = DeploymentParts(
            {"Server": self.platform}, lambda: world.now, PlainSealer(), on_end=on_deployment_ended
        )
        deployer = PipelineDeployer(self.parts, Audience(Rulebooks()).by_name)
        world.use(replace(world.parts, deployer=deployer))
        with world.db.write() as session:
            accounts = Accounts(b"p" * 32, SignInRules())
            accounts.create(session, "admin", actions=("admin",), now=world.now)
            accounts.create(session, "reader", actions=("read",), now=world.now)
            session.add(
                DeploymentApplication(
                    name="shop", domain="default", compute_platform="Server", created_by="ada",
                    created_at=world.now, updated_at=world.now,
                )
            )  # fmt: skip
        self.group("prod")

    def group(self, name: str, **document: Any) -> None:
        """Make a group, or give it another document."""
        whole = {"dummyTargets": ["web-1", "web-2"], "dummyEvents": SHORT, **document}
        with self.world.db.write() as session:
            row = session.scalar(select(DeploymentGroup).where(DeploymentGroup.name == name))
            if row is None:
                application = session.scalars(select(DeploymentApplication)).one()
                row = DeploymentGroup(
                    id=name.ljust(32, "0"), application_id=application.id, name=name, created_by="ada",
                    created_at=self.world.now, updated_at=self.world.now,
                )  # fmt: skip
                session.add(row)
            row.document = whole

    def work(self) -> None:
        """Do what is due, of pipelines and of deployments, until there is nothing."""
        table = jobs.handlers(self.parts)
        while self.world.work() + self._deploy(table):
            pass

    def _deploy(self, table: Any) -> int:
        with self.world.db.write() as session:
            claimed = claims.claim(
                session, owner="d", queues=[QUEUE], kinds=list(table), free=10, lease_seconds=600
            )
        for job in claimed:
            Attempt(
                self.world.db, job, handler=table[job.kind], settle=None, lease_seconds=600, first_retry_seconds=600
            ).run()
        return len(claimed)

    def hasten(self, kind: str) -> None:
        """Let the jobs of a kind be due now."""
        with self.world.db.write() as session:
            session.execute(update(Job).where(Job.kind == kind, Job.state == "queued").values(run_after=0))

    def run(self, version: str = "1.0") -> int:
        """Publish a version, and let all come to its end that can."""
        self.world.later(seconds=1)
        execution = self.world.publish_and_start(version=version)
        self.work()
        return execution

    def deployments(self) -> list[Deployment]:
        with self.world.db.read() as session:
            return list(session.scalars(select(Deployment).order_by(Deployment.created_at, Deployment.id)))

    def deployment(self, deployment_id: str) -> Deployment:
        with self.world.db.read() as session:
            return session.get_one(Deployment, deployment_id)

    def do(self, act: Callable[..., Any], *more: Any, **named: Any) -> Any:
        """A function that steers pipelines, as bob."""
        with self.world.db.write() as session:
            return act(session, self.world.parts, *more, actor="bob", now=self.world.now, **named)

    def ship(self, execution: int) -> Any:
        return self.world.action(execution, "Prod/Ship")


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Deploying]:
    with new_world("sqlite", tmp_path) as world:
        yield Deploying(world)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_publish_starts_a_pipeline_that_deploys_what_was_approved(backend: str, tmp_path: Path) -> None:
    if backend == "postgresql" and postgres.find_binaries() is None:
        pytest.skip("no PostgreSQL on this machine")
    with new_world(backend, tmp_path) as world:
        made = Deploying(world)
        told = approval("Told", configuration="{CustomData: '#{shipped.DeploymentId}'}")
        extra = "      namespace: shipped\n"
        world.apply(
            pipeline(
                stage("Gate", approval("Ask"))
                + stage("Prod", deploy(extra=extra))
                + stage("After", told)
            )
        )
        execution = made.run()
        files = world.files("dev", "acme", "1.0")
        # One more file, after the version was pinned, and before it is approved.
        world.publish("acme", "1.0", "acme-1.0.late", b"late")
        with world.db.write() as session:
            decide(
                session, world.parts, execution, "Gate", "Ask", verdict=Verdict.APPROVED, comment="", actor="bob",
                now=world.now,
            )  # fmt: skip
        world.work()
        ship = made.ship(execution)
        (row,) = made.deployments()
        assert (ship.status, ship.deployment_id) == ("InProgress", row.id)
        assert (row.initiator, row.subject) == ("codepipeline/release", f"execution:{execution}")
        package = row.revision["package"]
        assert (package["asset"], package["assets"], package["repository"]) == (None, files, "dev")
        assert package["sha256"] == world.execution(execution).summary.digest
        with world.db.read() as session:
            latest = get_pipeline_state(session, "release", lambda _: True).stage("Prod").action_states[0].latest_execution
            assert latest is not None
            assert (latest.external_execution_id, str(latest.external_execution_url)[-11:]) == (row.id, row.id)
        made.work()
        ship = made.ship(execution)
        assert ship.status == "Succeeded"
        assert ship.summary.endswith("Succeeded, 2 of 2 targets succeeded")
        assert ship.output_variables == {"DeploymentId": row.id, "RevisionDigest": f"sha256:{package['sha256']}"}
        assert world.action(execution, "After/Told").summary == row.id


def test_a_deployment_that_undoes_itself_fails_its_action_and_a_retry_makes_another_one(made: Deploying) -> None:
    made.group("prod", autoRollbackConfiguration={"enabled": True, "events": ["DEPLOYMENT_FAILURE"]})
    made.world.apply(pipeline(stage("Prod", deploy())))
    made.run()
    made.platform.outcomes["web-1", "ApplicationStart"] = [failed("ApplicationStart", "the page is blank")]
    execution = made.run("2.0")
    first = made.ship(execution)
    bad = made.deployment(first.deployment_id)
    assert (first.status, made.world.statuses(execution)[0], bad.status) == ("Failed", "Failed", "Failed")
    assert "the page is blank" in first.summary
    assert first.summary.endswith(f"it is rolled back by {bad.rolled_back_by}")
    undoing = made.deployment(bad.rolled_back_by)
    assert (undoing.status, undoing.revision["package"]["version"]) == ("Succeeded", "1.0")

    made.do(retry_stage, execution, "Prod", RetryMode.FAILED_ACTIONS)
    made.work()
    again = made.ship(execution)
    assert (again.status, again.attempt) == ("Succeeded", 2)
    assert [each.deployment_id for each in again.attempts] == [first.deployment_id]
    assert made.deployment(again.deployment_id).revision == bad.revision


@pytest.mark.parametrize("abandon", [False, True])
def test_stopping_lets_a_deployment_end_and_abandoning_stops_it(made: Deploying, abandon: bool) -> None:
    made.platform.outcomes["web-1", "BeforeInstall"] = [Later(600.0)]
    made.world.apply(pipeline(stage("Prod", deploy()) + stage("End", approval("Ask"))))
    execution = made.run()
    ship = made.ship(execution)
    assert ship.status == "InProgress"
    made.do(stop_execution, execution, reason="", abandon=abandon)
    made.hasten("deployment.event")
    made.work()
    status, _, actions = made.world.statuses(execution)
    row = made.deployment(ship.deployment_id)
    assert status == "Stopped"
    if abandon:
        assert (actions["Prod/Ship"], row.status, row.stopped_by) == ("Abandoned", "Stopped", f"execution:{execution}")
    else:
        assert (actions["Prod/Ship"], row.status) == ("Succeeded", "Succeeded")


def test_one_that_is_abandoned_before_it_was_made_never_is(made: Deploying) -> None:
    made.world.apply(pipeline(stage("Prod", deploy())))
    execution = made.world.publish_and_start()
    made.do(stop_execution, execution, reason="", abandon=True)
    made.work()
    assert (made.world.statuses(execution)[0], made.deployments()) == ("Stopped", [])


def test_a_deployment_that_takes_too_long_is_stopped_and_its_action_fails(made: Deploying) -> None:
    made.platform.outcomes["web-1", "BeforeInstall"] = [Later(600.0)]
    made.world.apply(pipeline(stage("Prod", deploy(extra="      timeoutInMinutes: 5\n"))))
    execution = made.run()
    made.hasten(timeouts.JOB_KIND)
    made.work()
    ship = made.ship(execution)
    assert (ship.status, made.world.statuses(execution)[0]) == ("Failed", "Failed")
    assert ship.summary.startswith("it had not ended after 5 minutes: deployment d-")
    assert made.deployment(ship.deployment_id).status == "Stopped"
    assert [entry.actor for entry in made.world.audited("action.expire")] == ["system"]


def test_a_deployment_that_ends_in_time_leaves_no_job_behind(made: Deploying) -> None:
    made.world.apply(pipeline(stage("Prod", deploy())))
    made.run()
    with made.world.db.read() as session:
        assert not session.scalars(select(Job.kind).where(Job.state == "queued")).all()


def test_a_pipeline_deploys_where_its_author_may_or_where_the_group_names_it(made: Deploying) -> None:
    document = pipeline(stage("Prod", deploy()))
    made.world.apply(document, actor="reader")
    summaries = [made.ship(made.run()).summary]
    made.world.apply(f"# anew\n{document}", actor="admin")
    with made.world.db.write() as session:
        session.scalars(select(Account).where(Account.name == "admin")).one().is_disabled = True
    summaries.append(made.ship(made.run("2.0")).summary)
    made.group("prod", pipelines=["nightly"])
    summaries.append(made.ship(made.run("3.0")).summary)
    assert made.deployments() == []
    assert summaries[0].startswith("not deployed to shop/prod: reader, who wrote the pipeline's definition, may not")
    assert "admin, who wrote the pipeline's definition, is not there or is disabled" in summaries[1]
    assert summaries[2].endswith("group prod names the pipelines that deploy to it, and release is none")
    made.group("prod", pipelines=["nightly", "release"])
    assert made.ship(made.run("4.0")).status == "Succeeded"


def test_what_cannot_be_deployed_fails_the_action_and_leaves_nothing(made: Deploying) -> None:
    cases = {
        "one": (deploy(group="nowhere"), "deployment group"),
        "two": (deploy(more=", Asset: '*.tgz'"), "has to match one file, and matches none of the files"),
        "three": (deploy(more=", Asset: '*.bin'"), "is no bundle"),
        "four": (deploy(more=", SourceRepository: prod"), "it is not there, or is blocked there"),
    }
    for name, (action, _) in cases.items():
        made.world.apply(pipeline(stage("Prod", action), name=name))
    made.run()
    for name, (_, told) in cases.items():
        ship = made.ship(made.world.executions(name)[0].id)
        assert (ship.status, ship.deployment_id) == ("Failed", None)
        assert told in ship.summary
    assert made.deployments() == []


def test_a_stage_that_is_rolled_back_deploys_what_it_had(made: Deploying) -> None:
    made.world.apply(pipeline(stage("Prod", deploy())).replace("stages:", "executionMode: SUPERSEDED\nstages:", 1))
    first = made.run()
    made.run("2.0")
    made.world.later(seconds=1)
    made.do(rollback_stage, first, "Prod")
    made.work()
    versions = [row.revision["package"]["version"] for row in made.deployments()]
    assert versions == ["1.0", "2.0", "1.0"]
    assert {row.status for row in made.deployments()} == {"Succeeded"}


def test_a_deployment_that_is_stopped_by_hand_fails_its_action(made: Deploying) -> None:
    made.platform.outcomes["web-1", "BeforeInstall"] = [Later(600.0)]
    made.world.apply(pipeline(stage("Prod", deploy())))
    execution = made.run()
    deployment_id = made.ship(execution).deployment_id
    with made.world.db.write() as session:
        engine.stop(session, made.parts, deployment_id, made.world.now, actor="joe")
    made.hasten("deployment.event")
    made.work()
    ship = made.ship(execution)
    assert ship.status == "Failed"
    assert f"deployment {deployment_id}" in ship.summary
    assert "MANUAL_STOP: stopped by joe" in ship.summary
