"""What went where and why, by rows: who sees which part of it, how often the database is asked, and why things wait."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import event, insert, select

from config import migrate
from hooks.commands.package_life import approval_told
from hooks.deployments import engine
from hooks.deployments.board import fleets, places_of
from hooks.deployments.platforms.dummy import failed
from hooks.deployments.waiting import wait_reasons
from hooks.models.build import Build
from hooks.models.deployment import (
    Deployment,
    DeploymentAgent,
    DeploymentApplication,
    DeploymentGroup,
    DeploymentInstallation,
    version_key,
)
from hooks.models.pipeline import Execution
from hooks.notifications.envelope import compose
from hooks.notifications.filters import place_of
from hooks.notifications.payloads import render
from hooks.pipelines.approvals import Verdict, decide
from hooks.pipelines.freezes import NewFreeze, create_freeze, delete_freeze
from hooks.visibility.board import board
from hooks.visibility.figures import figures
from hooks.visibility.life import life_of
from hooks.visibility.life_shapes import LifeApproval
from hooks.visibility.provenance import provenance_of_group
from registry.access import Action, Identity, Scope
from registry.accounts import account_scope, find_account
from registry.api.shapes import write
from registry.db import Database
from registry.models import Asset, BuiltAsset, Event, Package
from registry.names import PackageKey, PackageName
from tests import postgres
from tests.browser.site import PIPELINE, Site, build
from tests.fakes.deployed import AT_ONCE, HALF, Deployed
from tests.fakes.pipelines import new_world, stage
from tests.functional.test_pages_deployments import Browser
from tests.functional.test_pipeline_deployments import Deploying

MOST_QUERIES = 12
SUBJECTS = {
    "execution": "executions", "stage": "executions", "action": "executions", "approval": "executions", "build": "builds",
    "deployment": "deployments", "deployment-target": "deployments",
}  # fmt: skip
KEY = PackageKey("pypi", "", PackageName("acme-billing"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = build(tmp_path_factory.mktemp("visibility"))
    made.person("ada", ["admin"])
    made.person("narrow", ["read"], ["default/dev"])
    made.person("elsewhere", ["read"], ["default/staging"])
    for version in ("1.0", "1.1", "1.2"):
        made.package("dev", "acme-billing", version)
    made.package("prod", "acme-billing", "1.0")
    made.world.apply(PIPELINE)
    yield made
    made.world.close()


@pytest.fixture(scope="module")
def deployed(site: Site) -> Deployed:
    made = Deployed(site)
    shop = made.application("shop")
    made.group(shop, "prod", ["web-1", "web-2"])
    assert made.finish(made.deploy("shop", "prod", "1.0")) == "Succeeded"
    return made


def who(site: Site, name: str) -> Identity:
    with site.services.db.read() as session:
        account = find_account(session, name)
        return Identity(account.name, account.id, (account_scope(account),), "session")


def test_a_life_shows_to_each_only_what_they_may_see(site: Site, deployed: Deployed) -> None:
    def seen(name: str) -> tuple[set[str], int, str]:
        with site.services.db.read() as session:
            patience = site.hook_services.deployments.patience
            told = life_of(
                session, who(site, name), patience, domain="default", key=KEY, version="1.0", now=site.clock()
            )
        return {place.repository for place in told.places}, len(told.deployments), repr(told)

    places, deployments, _ = seen("ada")
    assert (places, deployments) == ({"dev", "prod"}, 1)
    places, deployments, told = seen("narrow")
    assert (places, deployments) == ({"dev"}, 0)
    assert "shop" not in told
    assert "prod" not in told
    page = "/packages/default/dev/pypi/acme-billing/-/1.0/life"
    assert "shop / prod" in Browser(site, "ada").text(page)
    assert "shop" not in Browser(site, "narrow").text(page)
    Browser(site, "elsewhere").html(page, status=403)


def test_until_when_is_told_by_what_came_next_and_going_back_is_no_end(site: Site, deployed: Deployed) -> None:
    second = deployed.deploy("shop", "prod", "1.1")
    assert deployed.finish(second) == "Succeeded"
    with site.services.db.write() as session:
        back = engine.rollback(session, deployed.parts, second, site.clock(), actor="ada").id
    deployed.advance(back)
    assert deployed.finish(back) == "Succeeded"
    with site.services.db.read() as session:
        patience = site.hook_services.deployments.patience
        ada, now = who(site, "ada"), site.clock()
        first, *rest = life_of(session, ada, patience, domain="default", key=KEY, version="1.0", now=now).deployments
        (gone,) = life_of(session, ada, patience, domain="default", key=KEY, version="1.1", now=now).deployments
        told = figures(session, ada, now, days=7).items
    assert (first.replaced_by, [each.rollback_of for each in rest]) == (second, [second])
    assert rest[-1].until is None
    assert {target.name for target in rest[-1].targets if target.is_there} == {"web-1", "web-2"}
    assert (gone.rolled_back_by, gone.replaced_by, [each.is_there for each in gone.targets]) == (
        back,
        back,
        [False] * 2,
    )
    assert [(each.deployments, each.failures, each.rollbacks) for each in told] == [(2, 1, 1)]
    assert told[0].time_to_restore_seconds.count == 1


def test_places_and_fleets_are_counted_by_the_database(site: Site, deployed: Deployed) -> None:
    application = deployed.application("wide")
    group = deployed.group(application, "all", ["wide-1"])
    assert deployed.finish(deployed.deploy("wide", "all", "1.2")) == "Succeeded"
    with site.services.db.write() as session:
        kept = session.scalars(select(DeploymentInstallation).where(DeploymentInstallation.group_id == group)).one()
        same = {"group_id": group, "deployment_id": kept.deployment_id, "revision": kept.revision,
                "version_key": kept.version_key, "installed_at": kept.installed_at}  # fmt: skip
        odd = {"deploymentId": kept.deployment_id, "changedCount": 2, "missingCount": 0}
        whole = {**odd, "changedCount": 0}
        session.execute(
            insert(DeploymentInstallation),
            [
                {
                    **same,
                    "target": f"wide-{number:04}",
                    "is_healthy": number % 10 != 0,
                    "found": (odd, whole, {**whole, "deploymentId": "d-OTHER"}, None)[number % 4],
                    "found_at": None if number % 4 == 3 else kept.installed_at,
                }
                for number in range(1000)
            ],
        )
    with site.services.db.read() as session:
        fleet = fleets(session, [group])[group]
        (place,) = places_of(
            session, who(site, "ada"), domain="default", format_name="pypi", namespace="", name="acme-billing",
            version="1.2",
        )  # fmt: skip
    assert (fleet.targets, fleet.unhealthy, fleet.drifted) == (1001, 100, 500)
    assert (place.targets, place.unhealthy, place.names) == (1001, 100, ("wide-0000", "wide-0001", "wide-0002"))


def test_why_a_deployment_waits(site: Site, deployed: Deployed) -> None:
    application = deployed.application("waits")
    deployed.group(application, "prod", ["w-1", "w-2", "w-3", "w-4"])

    def reasons(deployment_id: str) -> dict[str, str]:
        with site.services.db.read() as session:
            row = session.get_one(Deployment, deployment_id)
            told = wait_reasons(session, [row], site.hook_services.deployments.patience, site.clock())
        return {each.kind: each.text for each in told.get(deployment_id, ())}

    going = deployed.deploy("waits", "prod", "1.0", config=HALF, guidedFailure=True)
    behind = deployed.deploy("waits", "prod", "1.1", config=AT_ONCE)
    assert reasons(going) == {
        "turn": f"w-3, w-4 begin when their turn comes, after w-1, w-2: {HALF}",
    }
    assert reasons(behind) == {"queued": f"{going} goes on in this group: a group has one deployment at a time"}
    with site.services.db.write() as session:
        engine.pause(session, deployed.parts, going, site.clock(), actor="ada")
    assert reasons(going) == {"paused": "paused by ada: nothing more begins until somebody resumes it"}
    with site.services.db.write() as session:
        engine.resume(session, deployed.parts, going, site.clock(), actor="ada")
    deployed.run(going, "w-1", fails="ValidateService")
    assert reasons(going) == {"answer": "w-1 failed: somebody has to say whether to retry, ignore or fail that"}
    text = Browser(site, "ada").text(f"/deployments/{going}")
    assert "Somebody has to say what becomes of w-1" in text
    with site.services.db.write() as session:
        engine.stop(session, deployed.parts, going, site.clock(), actor="ada", rolls_back=False)
    assert set(reasons(going)) <= {"stopping"}


def test_the_board_asks_little_of_a_database_with_thousands_of_executions(site: Site, deployed: Deployed) -> None:
    newest = site.start("acme-billing", "1.2")
    with site.services.db.write() as session:
        row = session.get_one(Execution, newest)
        kept = {column.name: getattr(row, column.name) for column in Execution.__table__.columns if column.name != "id"}
        session.execute(
            insert(Execution),
            [
                {**kept, "name": f"acme-{number % 40}", "status": "Succeeded", "ended_at": row.started_at,
                 "trigger_identity": f"many:{number}", "started_at": row.started_at - timedelta(minutes=number)}
                for number in range(5000)
            ],
        )  # fmt: skip
    asked: list[str] = []

    def note(*arguments: object) -> None:
        asked.extend([str(arguments[2])] if not str(arguments[2]).startswith("BEGIN") else [])

    ada = Browser(site, "ada")
    ada.html("/board")
    event.listen(site.services.db.engine, "before_cursor_execute", note)
    for path in ("/board", "/board?pipeline=release&q=billing", "/figures?days=90"):
        asked.clear()
        began = time.perf_counter()
        ada.html(path)
        assert time.perf_counter() - began < 3, path  # it is about a tenth of that
        assert 3 < len(asked) <= MOST_QUERIES, (path, len(asked), asked)
    event.remove(site.services.db.engine, "before_cursor_execute", note)
    with site.services.db.read() as session:
        patience = site.hook_services.deployments.patience
        narrow = board(session, who(site, "narrow"), patience, site.clock(), search="acme-billing")
        nothing = board(session, who(site, "elsewhere"), patience, site.clock(), search="acme-billing")
        page = board(session, who(site, "ada"), patience, site.clock(), limit=10)
        more = board(session, who(site, "ada"), patience, site.clock(), limit=100, before=page.next)
    (only,) = narrow.rows
    assert [cell.place for cell in only.cells] == ["dev"]  # and nothing of prod
    assert nothing.rows == ()
    assert len(page.rows) == 10
    assert len({each.name for each in (*page.rows, *more.rows)}) == 41


@pytest.mark.parametrize("backend", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def test_both_databases_tell_the_same_of_two_releases_and_a_failure(backend: str, tmp_path: Path) -> None:
    if backend == "postgresql" and postgres.find_binaries() is None:
        pytest.skip("no PostgreSQL on this machine")
    with new_world(backend, tmp_path) as world:
        made = Deploying(world)
        undone = {"enabled": True, "events": ["DEPLOYMENT_FAILURE"]}
        made.group(made.place, dummyEvents=["Install", "ApplicationStart"], autoRollbackConfiguration=undone)
        made.apply(stage("Prod", made.deploy()))
        made.run("1.0")
        made.platform.outcomes["web-1", "ApplicationStart"] = [failed("ApplicationStart", "the page is blank")]
        broken = made.run("2.0")
        key = PackageKey("fmt", "", PackageName(made.name))
        admin, patience = Identity("admin", 1, (Scope(frozenset({Action.ADMIN})),), "session"), made.parts.patience
        with world.db.read() as session:
            lives = [
                life_of(session, admin, patience, domain="default", key=key, version=version, now=world.now)
                for version in ("1.0", "2.0")
            ]
            found = board(session, admin, patience, world.now, search=made.name)
            told = figures(session, admin, world.now + timedelta(seconds=1), kind="group", days=7).items
            group = session.scalars(select(DeploymentGroup).where(DeploymentGroup.name == made.place)).one()
            (there,), is_cut = provenance_of_group(session, admin, group.id)
            fleet = fleets(session, [group.id])[group.id]
            named = {"domain": "default", "format_name": "fmt", "namespace": "", "name": made.name}
            places = [places_of(session, admin, **named, version=version) for version in ("1.0", "2.0")]
    first, back = lives[0].deployments
    (bad,) = lives[1].deployments
    assert (first.until, back.rollback_of, bad.since, bad.rolled_back_by) == (
        None,
        bad.deployment_id,
        None,
        back.deployment_id,
    )
    assert [each.kind for each in lives[1].blocking] == ["failed"]
    (row,) = found.rows
    dev, prod = row.cells
    assert (dev.version, prod.version, prod.next_version, prod.next_execution_id) == ("2.0", "1.0", "2.0", broken)
    assert (prod.deployment_id, prod.failed_deployment_id) == (back.deployment_id, None)
    (item,) = told
    assert (item.deployments, item.failures, item.rollbacks, item.change_failure_rate) == (1, 1, 1, 0.5)
    assert (item.lead_time_seconds.count, item.time_to_restore_seconds.count, item.unrestored) == (1, 1, 0)
    assert (there.version, there.deployment_id, len(there.targets)) == ("1.0", back.deployment_id, 2)
    assert (fleet.targets, fleet.unhealthy, fleet.drifted, is_cut) == (2, 0, 0, False)
    assert [(each.target_count, each.there_count) for each in (first, back, bad)] == [(2, 2), (2, 2), (0, 0)]
    assert ([each.targets for each in places[0]], places[1]) == ([2], [])


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_the_migration_names_the_versions_that_are_there(backend: str, tmp_path: Path) -> None:
    if backend == "postgresql" and postgres.find_binaries() is None:
        pytest.skip("no PostgreSQL on this machine")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    about: dict[str, Any] = {"created_by": "ada", "created_at": now, "updated_at": now}
    package = {"domain": "default", "repository": "dev", "format": "pypi", "namespace": "", "name": "acme"}
    with ExitStack() as ending:
        url = f"sqlite:///{tmp_path / 'entrepot.db'}"
        if backend == "postgresql":
            url = ending.enter_context(postgres.shared().fresh_database())
        config = migrate.alembic_config(url)
        command.upgrade(config, "head")
        database = Database(url)
        ending.callback(database.close)
        with database.write() as session:
            shop = DeploymentApplication(name="shop", domain="default", compute_platform="Server", **about)
            session.add(shop)
            session.flush()
            session.add(DeploymentGroup(id="g" * 32, application_id=shop.id, name="prod", document={}, **about))
            session.flush()
            for number in range(1200):  # more than are read at once
                revision: dict[str, Any] = {"revisionType": "Package", "package": {**package, "version": str(number)}}
                if number % 3 == 0:
                    revision = {"revisionType": "Upload", "upload": {"id": "u", "sha256": "0" * 64}}
                session.add(
                    DeploymentInstallation(
                        group_id="g" * 32, target=f"t-{number}", deployment_id="d", revision=revision, is_healthy=True,
                        installed_at=now,
                    )
                )  # fmt: skip
        command.downgrade(config, "0039")
        command.upgrade(config, "head")
        with database.read() as session:
            rows = session.scalars(select(DeploymentInstallation)).all()
            expected = {row.target: version_key(row.revision["package"]) for row in rows if "package" in row.revision}
            assert {row.target: row.version_key for row in rows if row.version_key is not None} == expected
            assert (len(rows), len(expected)) == (1200, 800)


def test_silent_machines_and_traffic_that_waits_for_somebody_are_named(site: Site, deployed: Deployed) -> None:
    application, now = deployed.application("quiet"), site.clock()
    blue_green = {
        "deploymentStyle": {"deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL"},
        "blueGreenDeploymentConfiguration": {
            "deploymentReadyOption": {"actionOnTimeout": "STOP_DEPLOYMENT", "waitTimeInMinutes": 30}
        },
    }
    sides = [{"name": "q-1", "fleet": "Blue"}, {"name": "q-2", "fleet": "Green", "agent": "quiet-agent"}]
    deployed.group(application, "prod", sides, **blue_green)
    with site.services.db.write() as session:
        session.add(
            DeploymentAgent(
                id="quiet-agent", name="q-2", tags=[], domains=[], created_by="ada", created_at=now,
                seen_at=now - timedelta(minutes=5),
            )
        )  # fmt: skip
    going = deployed.deploy("quiet", "prod", "1.0")

    def told() -> dict[str, tuple[str, ...]]:
        with site.services.db.read() as session:
            row = session.get_one(Deployment, going)
            patience = site.hook_services.deployments.patience
            return {each.kind: each.targets for each in wait_reasons(session, [row], patience, site.clock())[going]}

    assert told()["silent"] == ("q-2",)
    assert "Nothing is heard of q-2" in Browser(site, "ada").text(f"/deployments/{going}")
    with site.services.db.write() as session:
        session.get_one(DeploymentAgent, "quiet-agent").seen_at = site.clock() + timedelta(hours=1)
    deployed.advance(going)
    deployed.run(going, "q-2")
    assert set(told()) == {"reroute"}


def test_every_event_of_pipelines_and_deployments_says_what_where_and_leads_somewhere(
    site: Site, deployed: Deployed
) -> None:
    execution = site.start("acme-billing", "1.0")
    site.end_build(site.build_of(execution))
    with site.services.db.read() as session:
        rows = session.scalars(select(Event).order_by(Event.id)).all()
        told = [row for row in rows if row.kind.partition(".")[0] in SUBJECTS]
    assert {row.kind for row in told} >= {
        "execution.started", "stage.started", "action.started", "action.succeeded", "approval.needed", "build.started",
        "build.succeeded", "deployment.started", "deployment.succeeded", "deployment.stopped", "deployment.rolled-back",
        "deployment.paused", "deployment-target.failed",
    }  # fmt: skip
    for row in told:
        body = compose(
            event_id=str(row.id), kind=row.kind, source="https://packages.example", subject=place_of(row.payload).path,
            occurred_at=row.occurred_at, data=row.payload,
        )  # fmt: skip
        text = json.loads(render("Chat", body, "https://packages.example")[1])["text"]
        line, link = text.split("\n")
        path = f"/{SUBJECTS[row.kind.partition('.')[0]]}/"
        assert link.startswith(f"https://packages.example{path}"), text
        assert any(name in line for name in ("acme-billing", "shop", "wide", "waits", "quiet")), line
        assert line.startswith(f"{row.kind}: "), line
        bridge = json.loads(render("EventBridge", body, "https://packages.example")[1])
        if row.kind not in {"approval.decided", "deployment.rolled-back"}:
            assert bridge["source"].startswith("aws.code"), bridge
            assert {"state", "build-status"} & set(bridge["detail"]), bridge
        assert bridge["detail"]["url"] == link


def test_a_commit_is_followed_to_the_machine_and_back(site: Site, deployed: Deployed) -> None:
    site.package("dev", "acme-built", "3.0")
    execution = site.start("acme-billing", "1.1")
    build_id, commit = site.build_of(execution), "c0ffee" * 6 + "c0ff"
    with site.services.db.write() as session:
        asset = session.scalars(
            select(Asset).join(Package, Package.id == Asset.package_id).where(Package.name == "acme-built")
        ).one()
        made = session.get_one(Build, build_id)
        made.submitted_at = asset.published_at - timedelta(hours=2)
        source = {
            "type": "GITHUB",
            "uri": "https://forge.example/acme.git",
            "version": commit,
            "digest": f"sha1:{commit}",
        }
        session.add(
            BuiltAsset(
                asset_id=asset.id, build_id=build_id, project="tests", number=made.number, attempt=1, runner="here",
                initiator="GitHub-Hookshot/1", source=source, published_at=asset.published_at,
            )
        )  # fmt: skip
    group = deployed.group(deployed.application("built"), "prod", ["b-1"])
    package = {"name": "acme-built"}
    assert deployed.finish(deployed.deploy("built", "prod", "3.0", package=package)) == "Succeeded"
    key, now = PackageKey("pypi", "", PackageName("acme-built")), site.clock()
    with site.services.db.read() as session:
        patience, ada = site.hook_services.deployments.patience, who(site, "ada")
        life = life_of(session, ada, patience, domain="default", key=key, version="3.0", now=now)
        (there,), _ = provenance_of_group(session, ada, group)
        (item,) = figures(session, ada, now, days=7, application="built").items
    assert life.source is not None
    assert (life.source.kind, life.source.commit, life.source.uri) == ("build", commit, source["uri"])
    assert [(each.build_id, each.has_published) for each in life.builds] == [(build_id, True)]
    assert [(each.build_id, each.commit) for each in there.builds] == [(build_id, commit)]
    assert item.lead_time_seconds.median is not None
    assert item.lead_time_seconds.median >= 7200
    assert commit in Browser(site, "ada").text("/applications/built/groups/prod/provenance")
    assert f"{source['uri']} {commit}" in Browser(site, "ada").text("/packages/default/dev/pypi/acme-built/-/3.0/life")


TWICE = """name: twice
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {category: Source, owner: Entrepot, provider: Package}
    configuration: {Repository: dev, Format: pypi, Name: acme-billing}
- name: Gate
  actions:
  - name: Ask
    actionTypeId: {category: Approval, owner: AWS, provider: Manual}
    configuration: {RequiredApprovals: "2"}
"""


@pytest.mark.parametrize("ending", [Verdict.APPROVED, Verdict.REJECTED])
def test_all_who_answered_an_approval_are_told(site: Site, ending: Verdict) -> None:
    site.world.apply(TWICE)
    number = site.start("acme-billing", "1.2", pipeline="twice")

    def look(answer: tuple[str, Verdict] | None = None) -> tuple[LifeApproval, str, str, str]:
        with site.services.db.write() as session:
            if answer is not None:
                name, verdict = answer
                decide(session, site.world.parts, number, "Gate", "Ask", verdict=verdict, comment=f"{name} <tried>",
                       actor=name, now=site.clock())  # fmt: skip
        with site.services.db.read() as session:
            patience = site.hook_services.deployments.patience
            found = life_of(
                session, who(site, "ada"), patience, domain="default", key=KEY, version="1.2", now=site.clock()
            )
        (approval,) = (each for each in found.approvals if each.execution_id == number)
        moments = [each for each in found.timeline if each.kind == "approval" and each.execution_id == number]
        page = Browser(site, "ada").text("/packages/default/dev/pypi/acme-billing/-/1.2/life")
        return approval, moments[-1].text + " " + moments[-1].detail, approval_told(write(approval)), page

    assert look()[2] == ""
    approval, _, told, page = look(("anna", Verdict.APPROVED))
    assert (approval.verdict, approval.by, approval.required) == ("Waiting", None, 2)
    assert [(each.account, each.verdict, each.comment, each.at) for each in approval.answers] == [
        ("anna", "Approved", "anna <tried>", site.clock())
    ]
    assert told == "waiting, approved by anna (1 of 2)"
    assert "1 of 2" in page
    approval, moment, told, page = look(("ben", ending))
    assert [each.account for each in approval.answers] == ["anna", "ben"]
    people = "anna, ben" if ending is Verdict.APPROVED else "ben"
    assert told == f"{ending.lower()} by {people}" + (" (2 of 2)" if ending is Verdict.APPROVED else "")
    assert f"{ending.lower()} by {people}: twice #{number}" in moment
    assert "anna: anna <tried>; ben: ben <tried>" in moment
    assert "anna “anna <tried>”" in page
    assert "ben “ben <tried>”" in page


def test_pages_say_that_a_freeze_keeps_a_version(site: Site, deployed: Deployed) -> None:
    site.package("dev", "acme-cold", "1.0")
    with site.services.db.write() as session:
        wanted = NewFreeze("cold", "inventory", ends_at=site.clock() + timedelta(hours=1))
        create_freeze(session, wanted, actor="ada", now=site.clock())
    execution = site.start("acme-cold", "1.0")
    ada = Browser(site, "ada")
    for path in ("/board?q=acme-cold", "/packages/default/dev/pypi/acme-cold/-/1.0/life"):
        page = ada.text(path)
        assert "Frozen" in page, path
        assert "by cold (inventory)" in page, path
        assert str(execution) in page, path
    with site.services.db.write() as session:
        delete_freeze(session, "cold", actor="ada", now=site.clock())
