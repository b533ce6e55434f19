"""The action that deploys: what was pinned goes to a group, by the rows of deployments, and the action follows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
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
from hooks.models import BuildArtifact
from hooks.models.deployment import Deployment, DeploymentApplication, DeploymentGroup
from hooks.models.job import Job
from hooks.models.pipeline import ActionExecution
from hooks.notifications.audience import Audience
from hooks.pipelines.abandoning import check_abandon
from hooks.pipelines.actions import timeouts
from hooks.pipelines.approvals import Verdict, decide
from hooks.pipelines.definition import RetryMode
from hooks.pipelines.deploy_jobs import on_deployment_ended
from hooks.pipelines.deployer import PipelineDeployer
from hooks.pipelines.pipeline_state import get_pipeline_state
from hooks.pipelines.rollback import rollback_stage
from hooks.pipelines.steering import retry_stage, stop_execution
from hooks.triggers.invoke import invoker
from registry.access import Action, Identity, Scope
from registry.accounts import Accounts, SignInRules
from registry.errors import Denied
from registry.models import Domain
from registry.repos import shelf
from registry.rulebook import Rulebooks
from storage.blobs import BlobHandle, Digest, Locator
from tests import postgres
from tests.fakes.deployments import PlainSealer
from tests.fakes.pipelines import World, approval, build, new_world, pipeline, source, stage


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
            accounts.create(session, "leaver", actions=("admin",), now=world.now).is_disabled = True
            session.add(
                DeploymentApplication(
                    name="shop", domain="default", compute_platform="Server", created_by="ada",
                    created_at=world.now, updated_at=world.now,
                )
            )  # fmt: skip
        self.number = 0
        self.next()

    def next(self) -> None:
        """Go on with another package, pipeline and group."""
        self.number += 1
        self.name, self.place = f"acme{self.number}", f"group{self.number}"
        self.platform.outcomes.clear()
        self.group(self.place)

    def group(self, name: str, **document: Any) -> None:
        """Make a group, or give it another document."""
        whole = {"dummyTargets": ["web-1", "web-2"], "dummyEvents": ["ApplicationStart"], **document}
        with self.world.db.write() as session:
            row = session.scalar(select(DeploymentGroup).where(DeploymentGroup.name == name))
            if row is None:
                application = session.scalars(select(DeploymentApplication)).one()
                row = DeploymentGroup(
                    id=name.rjust(32, "0"), application_id=application.id, name=name, created_by="ada",
                    created_at=self.world.now, updated_at=self.world.now,
                )  # fmt: skip
                session.add(row)
            row.document = whole

    def apply(self, stages: str, *, actor: str = "admin", mode: str = "PARALLEL", name: str = "") -> None:
        """A pipeline that takes the package."""
        document = pipeline(stages, name=name or self.name, first=source(name=self.name))
        self.world.apply(f"executionMode: {mode}\n{document}", actor=actor)

    def deploy(self, name: str = "Ship", *, group: str = "", more: str = "", extra: str = "") -> str:
        return (
            f"    - name: {name}\n"
            f"      configuration: {{ApplicationName: shop, DeploymentGroupName: {group or self.place}{more}}}\n"
            f"      actionTypeId: {{category: Deploy, owner: AWS, provider: CodeDeploy, version: '1'}}\n{extra}"
        )

    def work(self) -> None:
        """Do what is due, of pipelines and of deployments, until there is nothing."""
        table = jobs.handlers(self.parts)
        while self.world.work() + self._deploy(table):
            pass

    def _deploy(self, table: Any) -> int:
        with self.world.db.write() as session:
            claimed = claims.claim(session, owner="d", queues=[QUEUE], kinds=list(table), free=10, lease_seconds=600)
        for job in claimed:
            Attempt(
                self.world.db, job, handler=table[job.kind], settle=None, lease_seconds=600, first_retry_seconds=600
            ).run()
        return len(claimed)

    def hasten(self, kind: str) -> None:
        """Let the jobs of a kind be due now; there are none but of this test."""
        with self.world.db.write() as session:
            session.execute(update(Job).where(Job.kind == kind, Job.state == "queued").values(run_after=0))

    def run(self, version: str = "1.0") -> int:
        """Publish a version, and let all come to its end that can."""
        self.world.later(seconds=1)
        execution = self.world.publish_and_start(self.name, version)
        self.work()
        return execution

    def deployments(self) -> list[Deployment]:
        """Those of the group, in their order."""
        of_group = select(Deployment).join(DeploymentGroup).where(DeploymentGroup.name == self.place)
        with self.world.db.read() as session:
            return list(session.scalars(of_group.order_by(Deployment.created_at, Deployment.id)))

    def deployment(self, deployment_id: str) -> Deployment:
        with self.world.db.read() as session:
            return session.get_one(Deployment, deployment_id)

    def do(self, act: Callable[..., Any], *more: Any, **named: Any) -> Any:
        """A function that steers pipelines, as bob."""
        with self.world.db.write() as session:
            return act(session, self.world.parts, *more, actor="bob", now=self.world.now, **named)

    def ship(self, execution: int) -> Any:
        return self.world.action(execution, "Prod/Ship")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deploying]:
    with new_world("sqlite", tmp_path_factory.mktemp("deploying")) as world:
        yield Deploying(world)


@pytest.fixture
def made(shared: Deploying) -> Deploying:
    shared.next()
    return shared


@pytest.mark.parametrize("backend", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def test_a_publish_starts_a_pipeline_that_deploys_what_was_approved(
    backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if backend == "postgresql" and postgres.find_binaries() is None:
        pytest.skip("no PostgreSQL on this machine")
    with ExitStack() as stack:
        if backend == "sqlite":
            made = request.getfixturevalue("made")
        else:
            made = Deploying(stack.enter_context(new_world(backend, tmp_path)))
        world = made.world
        told = approval("Told", configuration="{CustomData: '#{shipped.DeploymentId}'}")
        extra = "      namespace: shipped\n"
        made.apply(stage("Gate", approval("Ask")) + stage("Prod", made.deploy(extra=extra)) + stage("After", told))
        execution = made.run()
        files = world.files("dev", made.name, "1.0")
        # One more file, after the version was pinned, and before it is approved.
        world.publish(made.name, "1.0", "late.bin", b"late")
        with world.db.write() as session:
            decide(
                session, world.parts, execution, "Gate", "Ask", verdict=Verdict.APPROVED, comment="", actor="bob",
                now=world.now,
            )  # fmt: skip
        world.work()
        ship = made.ship(execution)
        (row,) = made.deployments()
        assert (ship.status, ship.deployment_id) == ("InProgress", row.id)
        assert (row.initiator, row.subject) == (f"codepipeline/{made.name}", f"execution:{execution}")
        package = row.revision["package"]
        assert (package["asset"], package["assets"], package["repository"]) == (None, files, "dev")
        assert package["sha256"] == world.execution(execution).summary.digest
        with world.db.read() as session:
            latest = (
                get_pipeline_state(session, made.name, lambda _: True, world.now)
                .stage("Prod")
                .action_states[0]
                .latest_execution
            )
            assert latest is not None
            assert (latest.external_execution_id, str(latest.external_execution_url)[-11:]) == (row.id, row.id)
        made.work()
        ship = made.ship(execution)
        assert ship.status == "Succeeded"
        assert ship.summary.endswith("Succeeded, 2 of 2 targets succeeded")
        assert ship.output_variables == {"DeploymentId": row.id, "RevisionDigest": f"sha256:{package['sha256']}"}
        assert world.action(execution, "After/Told").summary == row.id


def test_a_deployment_that_undoes_itself_fails_its_action_and_a_retry_makes_another_one(made: Deploying) -> None:
    made.group(made.place, autoRollbackConfiguration={"enabled": True, "events": ["DEPLOYMENT_FAILURE"]})
    made.apply(stage("Prod", made.deploy()))
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
    made.platform.outcomes["web-1", "ApplicationStart"] = [Later(600.0)]
    made.apply(stage("Prod", made.deploy()) + stage("End", approval("Ask")))
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
        assert (actions["Prod/Ship"], row.status, row.stopped_by) == ("Abandoned", "Stopped", "bob")
    else:
        assert (actions["Prod/Ship"], row.status) == ("Succeeded", "Succeeded")


def test_abandoning_stops_each_of_several_deployments_in_a_transaction_of_its_own(made: Deploying) -> None:
    made.group("beside")
    made.platform.outcomes["web-1", "ApplicationStart"] = [Later(600.0), Later(600.0)]
    made.apply(stage("Prod", made.deploy() + made.deploy("Beside", group="beside")))
    execution = made.run()
    ids = [made.world.action(execution, f"Prod/{name}").deployment_id for name in ("Ship", "Beside")]
    assert all(ids)
    made.do(stop_execution, execution, reason="", abandon=True)
    with made.world.db.read() as session:
        stops = session.scalars(select(Job).where(Job.kind == "deployment_stop", Job.state == "queued")).all()
    assert sorted(job.payload["deployment_id"] for job in stops) == sorted(ids)
    assert [made.deployment(each).stopped_by for each in ids] == [None, None]
    made.hasten("deployment.event")
    made.work()
    assert [(made.deployment(each).status, made.deployment(each).stopped_by) for each in ids] == [
        ("Stopped", "bob")
    ] * 2


def test_abandoning_takes_the_right_to_steer_what_is_being_deployed(made: Deploying) -> None:
    made.platform.outcomes["web-1", "ApplicationStart"] = [Later(600.0)]
    made.apply(stage("Prod", made.deploy()))
    execution = made.run()
    publisher, operator = (
        Identity("pat", 1, (Scope(frozenset(actions)),), "session")
        for actions in ({Action.READ, Action.PUBLISH}, {Action.READ, Action.PUBLISH, Action.PROMOTE})
    )
    with made.world.db.write() as session:
        with pytest.raises(Denied):
            check_abandon(session, publisher, execution)
        check_abandon(session, operator, execution)


def test_abandoning_takes_that_right_for_what_another_pipeline_deploys_as_well(made: Deploying) -> None:
    world = made.world
    starts = invoker(lambda: world.parts, Audience(Rulebooks()).by_name)
    world.use(replace(world.parts, invoker=starts))
    made.platform.outcomes["web-1", "ApplicationStart"] = [Later(600.0)]
    call = (
        f"    - name: Call\n      configuration: {{PipelineName: {made.name}-inner}}\n"
        "      actionTypeId: {category: Invoke, owner: AWS, provider: CodePipeline}\n"
    )
    made.apply(stage("Other", call))
    execution = world.publish_and_start(made.name)
    made.apply(
        stage("Prod", made.deploy()), name=f"{made.name}-inner"
    )  # so late that the publish starts the outer alone
    made.work()
    inner = world.action(execution, "Other/Call").invoked_execution_id
    assert world.action(inner, "Prod/Ship").status == "InProgress"
    publisher, operator = (
        Identity("pat", 1, (Scope(frozenset(actions)),), "session")
        for actions in ({Action.READ, Action.PUBLISH}, {Action.READ, Action.PUBLISH, Action.PROMOTE})
    )
    with world.db.write() as session:
        with pytest.raises(Denied):
            check_abandon(session, publisher, execution)
        check_abandon(session, operator, execution)
        # Also where the worker died before it had written down what it started.
        call = select(ActionExecution).where(ActionExecution.invoked_execution_id == inner)
        session.scalars(call).one().invoked_execution_id = None
        session.flush()
        with pytest.raises(Denied):
            check_abandon(session, publisher, execution)
    made.do(stop_execution, execution, reason="", abandon=True)
    made.work()
    assert (world.statuses(execution)[0], world.statuses(inner)[0]) == ("Stopped", "Stopped")
    assert [each.status for each in made.deployments()] == ["Stopped"]


@pytest.mark.parametrize("abandon", [False, True])
def test_one_that_is_stopped_before_it_was_made_never_is(made: Deploying, abandon: bool) -> None:
    made.apply(stage("Prod", made.deploy()))
    execution = made.world.publish_and_start(made.name)
    made.do(stop_execution, execution, reason="", abandon=abandon)
    made.work()
    assert (made.world.statuses(execution)[0], made.deployments()) == ("Stopped", [])


def test_a_deployment_that_takes_too_long_is_stopped_and_its_action_fails(made: Deploying) -> None:
    made.platform.outcomes["web-1", "ApplicationStart"] = [Later(600.0)]
    made.apply(stage("Prod", made.deploy(extra="      timeoutInMinutes: 5\n")))
    execution = made.run()
    made.hasten(timeouts.JOB_KIND)
    made.work()
    ship = made.ship(execution)
    assert (ship.status, made.world.statuses(execution)[0]) == ("Failed", "Failed")
    assert ship.summary.startswith("it had not ended after 5 minutes: deployment d-")
    assert made.deployment(ship.deployment_id).status == "Stopped"
    entries = [
        entry for entry in made.world.audited("action.expire") if entry.object.endswith(f"execution/{execution}")
    ]
    assert [entry.actor for entry in entries] == ["system"]


def test_a_deployment_that_ends_in_time_leaves_no_job_behind(made: Deploying) -> None:
    made.apply(stage("Prod", made.deploy()))
    execution = made.run()
    with made.world.db.read() as session:
        waiting = session.execute(select(Job.kind, Job.payload).where(Job.state == "queued")).all()
    action = made.ship(execution)
    assert not [kind for kind, payload in waiting if payload.get("deployment_id") == action.deployment_id]
    assert not [kind for kind, payload in waiting if kind == timeouts.JOB_KIND]


def test_a_pipeline_deploys_where_its_author_may_or_where_the_group_names_it(made: Deploying) -> None:
    stages = stage("Prod", made.deploy())
    made.apply(stages, actor="reader")
    summaries = [made.ship(made.run()).summary]
    made.apply(stages, actor="leaver", mode="QUEUED")
    summaries.append(made.ship(made.run("2.0")).summary)
    made.group(made.place, pipelines=["nightly"])
    summaries.append(made.ship(made.run("3.0")).summary)
    assert made.deployments() == []
    assert summaries[0].startswith(
        f"not deployed to shop/{made.place}: reader, who wrote the pipeline's definition, may not"
    )
    assert "leaver, who wrote the pipeline's definition, is not there or is disabled" in summaries[1]
    assert summaries[2].endswith(f"group {made.place} names the pipelines that deploy to it, and {made.name} is none")
    made.group(made.place, pipelines=["nightly", made.name])
    assert made.ship(made.run("4.0")).status == "Succeeded"


def test_what_cannot_be_deployed_fails_the_action_and_leaves_nothing(made: Deploying) -> None:
    cases = {
        "one": (made.deploy(group="nowhere"), "deployment group"),
        "two": (made.deploy(more=", Asset: '*.tgz'"), "has to match one file, and matches none of the files"),
        "three": (made.deploy(more=", Asset: '*.bin'"), "is no bundle"),
        "four": (made.deploy(more=", SourceRepository: prod"), "it is not there, or is blocked there"),
    }
    for name, (action, _) in cases.items():
        made.apply(stage("Prod", action), name=f"{made.name}-{name}")
    made.group("empty", dummyTargets=[])
    made.apply(stage("Prod", made.deploy(group="empty")), name=f"{made.name}-empty")
    made.run()
    for name, (_, told) in cases.items():
        ship = made.ship(made.world.executions(f"{made.name}-{name}")[0].id)
        assert (ship.status, ship.deployment_id) == ("Failed", None)
        assert told in ship.summary
    assert made.deployments() == []
    # One that is there, and cannot begin.
    ship = made.ship(made.world.executions(f"{made.name}-empty")[0].id)
    assert (ship.status, made.deployment(ship.deployment_id).status) == ("Failed", "Failed")
    assert "NO_INSTANCES" in ship.summary


def test_what_a_build_has_left_is_deployed_as_it_was_left(made: Deploying) -> None:
    world = made.world
    builds = build("Make", extra="      outputArtifacts: [{name: Made}]\n")
    ships = made.deploy(extra="      inputArtifacts: [{name: Made}]\n")
    made.apply(stage("Build", builds) + stage("Prod", ships))
    execution = made.run()
    build_id = world.action(execution, "Build/Make").build_id
    sha256 = "ab" * 32
    with world.db.write() as session:
        domain = session.scalars(select(Domain.id)).first()
        blob, _ = shelf.ensure_blob(session, domain, BlobHandle(Locator("m" * 32), Digest(sha256), 7), world.now)
        session.add(
            BuildArtifact(
                build_id=build_id, identifier="primary", name="made", packaging="NONE", files=1, size_bytes=7,
                sha256=sha256, md5="", blob_id=blob.id, created_at=world.now,
            )
        )  # fmt: skip
        session.flush()
        world.end_build(build_id)(session)
    made.work()
    ship = made.ship(execution)
    assert ship.status == "Succeeded", ship.summary
    assert ship.output_variables["RevisionDigest"] == f"sha256:{sha256}"
    (row,) = made.deployments()
    assert row.revision["buildArtifact"] == {
        "buildId": build_id, "identifier": "primary", "sha256": sha256, "bundleType": "zip",
    }  # fmt: skip


def test_a_stage_that_is_rolled_back_deploys_what_it_had(made: Deploying) -> None:
    made.apply(stage("Prod", made.deploy()), mode="SUPERSEDED")
    first = made.run()
    made.run("2.0")
    made.world.later(seconds=1)
    made.do(rollback_stage, first, "Prod")
    made.work()
    versions = [row.revision["package"]["version"] for row in made.deployments()]
    assert versions == ["1.0", "2.0", "1.0"]
    assert {row.status for row in made.deployments()} == {"Succeeded"}


def test_a_deployment_that_is_stopped_by_hand_fails_its_action(made: Deploying) -> None:
    made.platform.outcomes["web-1", "ApplicationStart"] = [Later(600.0)]
    made.apply(stage("Prod", made.deploy()))
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
