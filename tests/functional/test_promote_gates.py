"""What a promotion asks of a version before it copies it: all that is not met at once, and nothing copied."""

import dataclasses
from pathlib import Path

import pytest
import sqlalchemy as sa

from hooks.builds.phases import BuildStatus
from hooks.builds.projects import Settings, create_or_update_project
from hooks.builds.reports.model import ReportStatus
from hooks.models.job import Job
from hooks.pipelines.steering import RetryMode, retry_stage, stop_execution
from hooks.triggers.start import start_manual
from registry.errors import InvalidDocument
from registry.models import Asset, BuiltAsset
from registry.repos import built
from registry.repos.advisories import AdvisoryView
from registry.repos.built import Built, BuiltSource
from tests import postgres
from tests.fakes.pipelines import build, new_world, pipeline, promotion, source, stage
from tests.report_bench import case, hand_in, result


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request, tmp_path: Path):
    if request.param == "postgresql" and postgres.find_binaries() is None:
        pytest.skip("there is no PostgreSQL on this machine")
    with new_world(request.param, tmp_path) as made:
        yield made


class Open:
    """Seals nothing: what messages say is not what this is about."""

    def seal(self, data: bytes, _context: str) -> bytes:
        return data

    unseal = seal


def gated(**settings: str) -> str:
    more = "".join(f', {name}: "{value}"' for name, value in settings.items())
    return pipeline(stage("Test", build("Unit")) + stage("Ship", promotion("P", "staging", more=more)))


def ran(world, *cases, status=None):
    """A started execution whose build has ended with one report of these cases, if any."""
    started = world.publish_and_start()
    build_id = world.action(started, "Test/Unit").build_id
    if cases:
        hand_in(world.db, Open(), build_id, result("junit", list(cases), status=status), world.now)
    with world.db.write() as session:
        world.end_build(build_id, BuildStatus.SUCCEEDED)(session)
    return started


def ship(world, started):
    world.work("promote")
    action = world.action(started, "Ship/P")
    return action.status, action.summary, bool(world.files("staging", "acme", "1.0"))


GREEN = [case(f"test_{number}") for number in range(3)]


def test_a_gate_that_is_met_lets_through(world):
    world.apply(gated(RequireReports="true", MinimumTests="3", MinimumAge="24h"))
    started = world.publish_and_start()
    build_id = world.action(started, "Test/Unit").build_id
    hand_in(world.db, Open(), build_id, result("junit", GREEN), world.now)
    world.later(hours=24)
    with world.db.write() as session:
        world.end_build(build_id)(session)
    assert ship(world, started) == ("Succeeded", "promoted from dev to staging", True)


def test_all_that_is_not_met_is_told_at_once_and_nothing_is_copied(world):
    world.apply(gated(RequireReports="true", MinimumTests="3", MinimumAge="24h", RequireAttestations="true"))
    started = ran(world, case("a"), case("b", "FAILED"), case("c", "ERROR"))
    world.later(hours=21, minutes=30)
    status, summary, copied = ship(world, started)
    assert (status, copied) == ("Failed", False)
    assert summary == (
        "not promoted from dev to staging: reports: 1 of 1 are not SUCCEEDED (tests-junit is FAILED: 2 of 3 failed); "
        "tests: 1 succeeded, at least 3 have to; attestations: none for acme-1.0.bin; "
        "age: 2h 30m of 24h in dev are missing"
    )


@pytest.mark.parametrize("status", [ReportStatus.INCOMPLETE, ReportStatus.GENERATING, None])
def test_no_report_and_half_a_report_are_not_green(world, status):
    world.apply(gated(RequireReports="true"))
    started = ran(world, *(GREEN if status else ()), status=status)
    told = f"tests-junit is {status}" if status else "the builds of this execution have left none"
    assert told in ship(world, started)[1]
    assert not world.files("staging", "acme", "1.0")


def test_a_version_that_is_too_young_may_be_waited_for_as_a_row(world):
    world.apply(gated(MinimumAge="24h", WaitForAge="true"))
    started = ran(world)
    status, summary, copied = ship(world, started)
    assert (status, copied) == ("InProgress", False)
    assert summary == "waits before the promotion from dev to staging: age: 1d of 24h in dev are missing"
    with world.db.read() as session:
        job = session.scalars(sa.select(Job).where(Job.kind == "promote", Job.state == "queued")).one()
        assert 86_390 < job.run_after - job.enqueued_at <= 86_401
        assert job.id == session.scalar(sa.text("SELECT job_id FROM action_execution WHERE name = 'P'"))
    world.later(hours=23)
    due(world)
    assert ship(world, started)[1].endswith("age: 1h of 24h in dev are missing")
    world.later(hours=1)
    due(world)
    assert ship(world, started) == ("Succeeded", "promoted from dev to staging", True)


def due(world):
    with world.db.write() as session:
        session.execute(sa.update(Job).where(Job.kind == "promote", Job.state == "queued").values(run_after=0))


@pytest.mark.parametrize("abandon", [False, True])
def test_what_is_waited_for_ends_with_a_stop_and_what_fails_anyhow_is_not_waited_for(world, abandon):
    world.apply(gated(MinimumAge="24h", WaitForAge="true"))
    started = ran(world)
    ship(world, started)
    with world.db.write() as session:
        stop_execution(session, world.parts, started, actor="op", reason="", abandon=abandon, now=world.now)
    assert world.statuses(started)[0] == "Stopped"
    world.later(days=2)
    due(world)
    assert ship(world, started)[0] == "Abandoned"
    assert not world.files("staging", "acme", "1.0")
    world.apply(gated(MinimumAge="24h", WaitForAge="true", RequireReports="true"))
    world.publish("acme", "2.0", "acme-2.0.bin")
    world.dispatch()
    world.settled()
    world.work("start_execution")
    second = world.executions()[0].id
    with world.db.write() as session:
        world.end_build(world.action(second, "Test/Unit").build_id)(session)
    if not abandon:  # one that is due, and so about to be carried out, comes to its end
        with world.db.write() as session:
            stop_execution(session, world.parts, second, actor="op", reason="", abandon=False, now=world.now)
        assert world.action(second, "Ship/P").status == "InProgress"
    assert ship(world, second)[0] == "Failed"


def test_age_counts_from_the_last_file_and_from_when_the_version_came_here(world):
    world.apply(gated(MinimumAge="2h"))
    world.publish("acme", "1.0", "acme-1.0.zip", b"y")
    world.later(hours=1, minutes=30)
    started = ran(world)  # a further file of the same version
    world.later(hours=1)
    assert "age: 1h of 2h" in ship(world, started)[1]


def test_a_publisher_is_asked_for_by_name_and_every_file_needs_it(world):
    by = {}
    world.use(dataclasses.replace(world.parts, attested=lambda path, _key, _version: by[path]))
    world.apply(gated(RequireAttestations="GitHub:acme/*"))
    for version, found, lets_through in (
        ("1.0", {}, False),
        ("1.1", {"acme-1.1.bin": ("Entrepot:alice", "GitHub:acmeevil/client")}, False),
        ("1.2", {"other.bin": ("GitHub:acme/client",)}, False),
        ("1.3", {"acme-1.3.bin": ("Entrepot:alice", "GitHub:acme/client")}, True),
    ):
        by["default/dev"] = found
        world.publish("acme", version, f"acme-{version}.bin")
        world.dispatch()
        world.settled()
        world.work("start_execution")
        started = world.executions()[0].id
        with world.db.write() as session:
            world.end_build(world.action(started, "Test/Unit").build_id)(session)
        world.work("promote")
        assert bool(world.files("staging", "acme", version)) is lets_through, version
    (entry,) = world.audited("version.promote")
    assert entry.object.endswith("1.3")


def test_attestations_of_any_kind(world):
    world.apply(gated(RequireAttestations="true"))
    started = ran(world)
    with world.db.write() as session:
        session.execute(sa.update(Asset).values(provenance_blob_id=Asset.blob_id))
    assert ship(world, started)[0] == "Succeeded"


def test_advisories_from_a_severity_on_block_and_what_nobody_rated_does_too(world):
    told = {}

    def find(_session, key, version):
        return [
            AdvisoryView(f"A-{word}", "", word, (), "", (), None, world.now)
            for word in told.get((key.name, version), ())
        ]

    world.use(dataclasses.replace(world.parts, advisories=find))
    world.apply(gated(BlockAdvisories="high"))
    told["acme", "1.0"] = ("unknown", "high", "low")
    started = ran(world)
    assert ship(world, started) == (
        "Failed",
        "not promoted from dev to staging: advisories: 2 of high or above: A-unknown (unknown), A-high (high)",
        False,
    )
    told["acme", "1.0"] = ("low", "moderate")
    with world.db.write() as session:
        retry_stage(session, world.parts, started, "Ship", RetryMode.FAILED_ACTIONS, actor="op", now=world.now)
    assert ship(world, started)[0] == "Succeeded"


# --- several versions at once


def publishing(packages: str, head: str = "", **settings: str) -> str:
    more = f', Packages: "{packages}"' + "".join(f', {name}: "{value}"' for name, value in settings.items())
    made = build("Wheel", project="maker", more=", PublishRepository: dev")
    return pipeline(
        stage("Make", made).replace("- name: Make", f"- name: Make{head}")
        + stage("Ship", promotion("P", "staging", more=more)),
        first=source("dev", "acme"),
    )


def made(world, *published, status=BuildStatus.SUCCEEDED):
    """A started execution whose build has published these versions of other packages to dev, and ended."""
    started = world.publish_and_start()
    build_id = world.action(started, "Make/Wheel").build_id
    for name, version in published:
        world.publish(name, version, f"{name}-{version}.bin", name.encode(), by=f"build:{build_id}")
        world.publish(name, version, f"{name}-{version}.txt", b"by somebody else")
        with world.db.write() as session:
            asset = session.scalars(sa.select(Asset).where(Asset.filename == f"{name}-{version}.bin")).one()
            kept = Built(build_id, "maker", 1, 1, "r", "i", BuiltSource("PACKAGE", "", version, ""))
            built.keep(session, asset, kept, world.now)
    with world.db.write() as session:
        world.end_build(build_id, status)(session)
    return started


@pytest.fixture
def maker(world):
    with world.db.write() as session:
        create_or_update_project(
            session, name="maker", now=world.now,
            settings=Settings(repository=("default", "dev"), document={"publishRepository": "default/dev"}),
        )  # fmt: skip
    return world


def test_what_a_build_published_is_promoted_file_for_file_and_nothing_else(maker):
    maker.apply(publishing("published-by:Make/Wheel"))
    started = made(maker, ("lib", "1.0"), ("tool", "2.0"))
    maker.work("promote")
    assert maker.action(started, "Ship/P").summary == "promoted to staging: lib 1.0, tool 2.0"
    assert set(maker.files("staging", "lib", "1.0")) == {"lib-1.0.bin"}, (
        "what others added to the version is not the build's"
    )
    assert set(maker.files("staging", "tool", "2.0")) == {"tool-2.0.bin"}
    assert maker.files("staging", "acme", "1.0") == {}, "the source is not named"


SKIPPED = "\n    onFailure: {conditions: [{result: SKIP, rules: [RULE]}]}"
RULE = (
    '{name: Yes, ruleTypeId: {category: Rule, owner: AWS, provider: VariableCheck, version: "1"},'
    ' configuration: {Variable: "#{src.Name}", Value: acme, Operator: EQ}}'
)


def test_what_a_build_published_before_it_failed_is_not_promoted(maker):
    maker.apply(publishing("published-by:Make/Wheel", SKIPPED.replace("RULE", RULE)))
    started = made(maker, ("lib", "1.0"), status=BuildStatus.FAILED)
    maker.work("promote")
    assert maker.statuses(started)[1]["Make"] == "Skipped"
    assert maker.action(started, "Ship/P").summary.endswith("has not succeeded: what it published is not promoted")
    assert maker.files("staging", "lib", "1.0") == {}


def test_where_a_promotion_comes_from_counts_for_what_builds_published_as_well(maker):
    maker.add_repository("middle")
    maker.apply(publishing("published-by:Make/Wheel", SourceRepository="middle"))
    started = made(maker, ("lib", "1.0"))
    maker.work("promote")
    assert maker.action(started, "Ship/P").summary.endswith("has published nothing that is still there in middle")
    assert maker.files("staging", "lib", "1.0") == {}


def test_several_versions_are_promoted_together_or_not_at_all(maker):
    maker.apply(publishing("source, published-by:Make/Wheel", MinimumAge="1h"))
    started = made(maker, ("lib", "1.0"), ("tool", "2.0"))
    maker.publish("tool", "2.0", "tool-2.0.bin", b"other bytes", repository="staging")
    maker.work("promote")
    summary = maker.action(started, "Ship/P").summary
    assert [f"age of {each}: 1h of 1h in dev" in summary for each in ("acme 1.0", "lib 1.0", "tool 2.0")] == [True] * 3
    maker.later(hours=1)
    with maker.db.write() as session:
        retry_stage(session, maker.parts, started, "Ship", RetryMode.FAILED_ACTIONS, actor="op", now=maker.now)
    maker.work("promote")
    assert "tool-2.0.bin" in maker.action(started, "Ship/P").summary
    assert maker.files("staging", "acme", "1.0") == maker.files("staging", "lib", "1.0") == {}
    maker.add_repository("empty")
    maker.apply(publishing("source, published-by:Make/Wheel").replace("'staging'", "'empty'"))  # the control
    with maker.db.write() as session:
        at = maker.at("acme", "1.0")
        again = start_manual(session, maker.parts, "release", at, actor="op", now=maker.now).execution_id
    build_id = maker.action(again, "Make/Wheel").build_id
    with maker.db.write() as session:
        session.execute(sa.update(BuiltAsset).values(build_id=build_id))
        maker.end_build(build_id)(session)
    maker.work("promote")
    assert maker.action(again, "Ship/P").status == "Succeeded", maker.action(again, "Ship/P").summary
    assert all(maker.files("empty", *each) for each in (("acme", "1.0"), ("lib", "1.0"), ("tool", "2.0")))


def test_a_build_that_published_nothing_promotes_nothing(maker):
    maker.apply(publishing("published-by:Make/Wheel"))
    started = made(maker)
    maker.work("promote")
    assert maker.action(started, "Ship/P").summary.endswith(
        "the build of Make/Wheel has published nothing that is still there"
    )


@pytest.mark.parametrize(
    "value", ["published-by:Make", "all", "published-by:Make/Other", "published-by:Ship/P", "#{src.Name}"]
)
def test_packages_of_no_build_that_has_ended_are_refused_when_applied(world, value):
    with pytest.raises(InvalidDocument, match="Packages"):
        world.apply(publishing(value))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("RequireReports", "yes"),
        ("MinimumTests", "0"),
        ("MinimumAge", "1w"),
        ("MinimumAge", "0h"),
        ("MinimumAge", "366d"),
        ("MinimumAge", "#{src.Version}"),
        ("RequireAttestations", "alice"),
        ("BlockAdvisories", "severe"),
    ],
)
def test_gates_that_mean_nothing_are_refused_when_they_are_applied(world, setting, value):
    with pytest.raises(InvalidDocument, match=setting):
        world.apply(gated(**{setting: value}))
