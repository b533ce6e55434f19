"""Approvals by several, on both databases: who is asked, whose answer counts, and one truth whatever dies or races (I4)."""

import dataclasses
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from hooks.models.job import Job
from hooks.models.pipeline import ApprovalResult, Execution
from hooks.pipelines import asking
from hooks.pipelines.approvals import Verdict, decide
from hooks.pipelines.approvers import parse_approvers
from hooks.pipelines.steering import RetryMode, retry_stage
from hooks.pipelines.transitions import disable_transition, enable_transition
from hooks.triggers.start import start_manual
from registry import groups
from registry.access import EVERYTHING, Identity
from registry.accounts import Accounts, find_account
from registry.errors import Conflict, Denied, Invalid, InvalidDocument
from registry.models import Account, Event
from tests import postgres
from tests.fakes.pipelines import approval, build, new_world, pipeline, promotion, source, stage


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request, tmp_path: Path):
    if request.param == "postgresql" and postgres.find_binaries() is None:
        pytest.skip("there is no PostgreSQL on this machine")
    with new_world(request.param, tmp_path) as made:
        with made.db.write() as session:
            groups.create(session, "release", "", "admin", made.now)
            for name in ("anna", "ben", "cora", "dirk"):
                account = Accounts(b"").create(session, name, actions=["approve"], now=made.now)
                if name != "dirk":
                    groups.add_member(session, "release", account, "admin", made.now)
        yield made


def release(configuration: str, extra: str = "", ship: str = promotion("Promote", "prod")) -> str:
    return pipeline(stage("Gate", approval("Ask", configuration=configuration, extra=extra)) + stage("Ship", ship))


def answer(world, execution, actor, verdict=Verdict.APPROVED, **more):
    with world.db.write() as session:
        return decide(
            session, world.parts, execution, "Gate", "Ask", verdict=verdict, comment=f"by {actor}", actor=actor,
            now=world.now, **more,
        )  # fmt: skip


def asked(world, execution, name="anna"):
    with world.db.read() as session:
        found = asking.questions(session, world.parts, world.execution(execution), Identity(name, 1, (EVERYTHING,), ""))
    return found[0] if found else None


def take_out(world, name):
    with world.db.write() as session:
        groups.remove_member(session, "release", find_account(session, name), "admin", world.now)


def kinds(world):
    with world.db.read() as session:
        return list(session.scalars(sa.select(Event.kind).order_by(Event.id)))


TWO = '{RequiredApprovals: "2", Approvers: "release", NotByPublisher: "true", NotByStarter: "true"}'


def test_two_of_a_group_approve_each_once_and_all_of_it_is_kept(world):
    world.apply(release(TWO))
    started = world.publish_and_start(by="cora")
    question = asked(world, started)
    assert (question.given, question.required, question.may_answer) == (0, 2, True)
    assert question.lets_through == ("promotion to prod",)
    assert answer(world, started, "anna") is False
    assert world.statuses(started)[2]["Gate/Ask"] == "Waiting"
    with pytest.raises(Conflict, match="anna has answered"):
        answer(world, started, "anna", Verdict.REJECTED)
    mine = asked(world, started)
    assert (mine.given, mine.may_answer, mine.refusal) == (1, False, "You have answered. The others are still asked.")
    for name, why in (("cora", "cora published files"), ("dirk", "not among those")):
        with pytest.raises(Denied, match=why):
            answer(world, started, name)
        assert asked(world, started, name).refusal
    assert world.statuses(started)[1]["Ship"] is None
    assert answer(world, started, "ben") is True
    ask = world.action(started, "Gate/Ask")
    digest = world.execution(started).summary.digest
    assert [(each.account, each.verdict, each.comment, each.digest) for each in ask.results] == [
        ("anna", "Approved", "by anna", digest),
        ("ben", "Approved", "by ben", digest),
    ]
    assert (ask.status, ask.summary, ask.required_approvals) == ("Succeeded", "approved by anna, ben", 2)
    assert [entry.details["approvals"] for entry in world.audited("approval.approved")] == ["1 of 2", "2 of 2"]
    assert kinds(world).count("approval.answered") == kinds(world).count("approval.decided") == 1
    world.work("promote")
    assert world.files("prod", "acme", "1.0")


def test_one_rejection_rejects_and_a_retry_asks_everybody_anew(world):
    world.apply(release(TWO))
    started = world.publish_and_start()
    answer(world, started, "anna")
    assert answer(world, started, "ben", Verdict.REJECTED) is True
    assert world.statuses(started)[0] == "Failed"
    with world.db.write() as session:
        retry_stage(session, world.parts, started, "Gate", RetryMode.FAILED_ACTIONS, actor="op", now=world.now)
    assert (asked(world, started).given, asked(world, started).may_answer) == (0, True)
    answer(world, started, "anna")
    answer(world, started, "cora")
    assert world.statuses(started)[1]["Gate"] == "Succeeded"
    (old,) = world.action(started, "Gate/Ask").attempts
    assert [each.verdict for each in old.results] == ["Approved", "Rejected"]


def test_who_started_it_may_not_approve_it_also_behind_a_promotion(world):
    world.apply(pipeline(stage("Ship", promotion("P", "staging")), name="first"))
    onwards = pipeline(
        stage("Gate", approval("Ask", configuration='{NotByStarter: "true"}')), name="onwards", first=source("staging")
    )
    world.apply(onwards)
    world.publish("acme", "1.0", "acme-1.0.bin")
    with world.db.write() as session:
        start_manual(session, world.parts, "first", world.at("acme", "1.0"), actor="anna", now=world.now)
    world.work("promote")
    world.dispatch()
    world.settled()
    world.work("start_execution")
    started = world.executions("onwards")[0].id
    with pytest.raises(Denied, match="anna started this execution"):
        answer(world, started, "anna")
    assert asked(world, started).refusal.startswith("You started this execution")
    assert answer(world, started, "ben") is True  # the control


def test_b_a_member_who_was_removed_meanwhile_approves_nothing_and_has_approved_nothing(world):
    world.apply(release('{RequiredApprovals: "2", Approvers: "group:release"}'))
    started = world.publish_and_start()
    answer(world, started, "anna")
    take_out(world, "anna")
    take_out(world, "ben")
    with pytest.raises(Denied, match="not among those"):
        answer(world, started, "ben")
    assert asked(world, started, "cora").given == 0
    assert answer(world, started, "cora") is False, "the approval of somebody who may not any more counted"
    with world.db.write() as session:  # the control: in the group again, hers counts
        groups.add_member(session, "release", find_account(session, "anna"), "admin", world.now)
        groups.add_member(session, "release", find_account(session, "ben"), "admin", world.now)
    assert asked(world, started, "cora").given == 2
    assert answer(world, started, "ben") is True


def test_an_approver_who_lost_the_right_meanwhile_has_approved_nothing(world):
    lost = {"anna"}
    world.use(dataclasses.replace(world.parts, may_approve=lambda _s, name, _p: name not in lost))
    world.apply(release('{RequiredApprovals: "2"}'))
    started = world.publish_and_start()
    answer(world, started, "anna")
    assert answer(world, started, "ben") is False
    lost.clear()
    assert answer(world, started, "cora") is True
    assert world.action(started, "Gate/Ask").summary == "approved by anna, ben, cora"


def test_a_bare_name_is_the_groups_before_it_is_a_users(world):
    """Who signs up under the name of a group is no approver by it."""
    with world.db.write() as session:
        Accounts(b"").create(session, "release", actions=["approve"], now=world.now)
    world.apply(release('{Approvers: \'["release", "user:dirk"]\'}'))
    started = world.publish_and_start()
    with pytest.raises(Denied):
        answer(world, started, "release")
    assert answer(world, started, "dirk") is True


def test_twelve_answers_at_once_are_one_truth(world):
    world.apply(release('{RequiredApprovals: "3"}'))
    started = world.publish_and_start()
    together, outcomes = threading.Barrier(12), []

    def click(number):
        together.wait()
        try:
            outcomes.append(answer(world, started, f"user{number % 4}"))
        except Conflict:
            outcomes.append(None)

    threads = [threading.Thread(target=click, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["False"] * 2 + ["None"] * 9 + ["True"]
    assert len(world.action(started, "Gate/Ask").results) == 3
    with world.db.read() as session:
        assert len(session.scalars(sa.select(Job).where(Job.kind == "promote")).all()) == 1


def test_killed_between_any_two_statements_an_answer_is_whole_or_was_not_given(world):
    world.apply(release('{RequiredApprovals: "2"}'))
    started = world.publish_and_start()
    for actor, given in (("anna", 1), ("ben", 2)):
        for statements in range(1, 200):
            if not world.dies(statements, lambda actor=actor: answer(world, started, actor)):
                break
            with world.db.read() as session:
                assert session.scalar(sa.select(sa.func.count()).select_from(ApprovalResult)) == given - 1
            assert world.statuses(started)[2]["Gate/Ask"] == "Waiting"
        else:
            raise AssertionError("it never came to its end")
        assert len(world.action(started, "Gate/Ask").results) == given
    assert world.statuses(started)[1] == {"Source": "Succeeded", "Gate": "Succeeded", "Ship": "InProgress"}


# --- giving way to what is newer


def line(world, mode="SUPERSEDED", gives_way="true", before=""):
    gate = approval("Ask", run_order=2, configuration=f'{{ExpiresWhenSuperseded: "{gives_way}"}}')
    world.apply(f"executionMode: {mode}\n" + pipeline(stage("Gate", before, gate)))


def start(world, version, name="acme"):
    world.publish(name, version, f"{name}-{version}.bin", version.encode())
    with world.db.write() as session:
        at = world.at(name, version)
        return start_manual(session, world.parts, "release", at, actor="op", now=world.now).execution_id


@pytest.mark.parametrize("mode", ["SUPERSEDED", "QUEUED"])
def test_an_approval_expires_when_a_newer_execution_waits_behind_it(world, mode):
    line(world, mode)
    first, other, second = start(world, "1.0"), start(world, "1.0", "other"), start(world, "2.0")
    assert world.statuses(first)[0] == "Failed"
    assert world.action(first, "Gate/Ask").summary == f"expired: execution {second} of the same package waits behind it"
    assert world.statuses(other)[2]["Gate/Ask"] == "Waiting", "the first that waits goes in"
    assert world.execution(second).inbound_stage == "Gate", "another package is ousted by nobody"
    answer(world, other, "anna")
    assert world.statuses(second)[2]["Gate/Ask"] == "Waiting"
    with pytest.raises(Conflict):
        answer(world, first, "anna")
    (entry,) = world.audited("approval.expire")
    assert entry.details["superseded_by"] == second
    with world.db.read() as session:  # its expiry by time is no longer queued
        states = session.scalars(sa.select(Job.state).where(Job.kind == "expire_approval").order_by(Job.id)).all()
    assert [str(state) for state in states] == ["stopped", "stopped", "queued"]


def test_giving_way_is_no_failure_that_a_stage_goes_back_for(world):
    gate = approval("Ask", configuration='{ExpiresWhenSuperseded: "true"}')
    text = pipeline(stage("Gate", gate)).replace("- name: Gate", "- name: Gate\n    onFailure: {result: ROLLBACK}")
    world.apply(f"executionMode: SUPERSEDED\n{text}")
    first = start(world, "1.0")
    answer(world, first, "anna")
    second, third = start(world, "2.0"), start(world, "3.0")
    assert world.statuses(second)[0] == "Failed"
    assert world.statuses(third)[2]["Gate/Ask"] == "Waiting", "nothing goes back to 1.0, and the newest is asked for"
    answer(world, third, "anna", Verdict.REJECTED)  # the control: this is a failure
    with world.db.read() as session:
        kinds = session.scalars(sa.select(Execution.trigger_kind).order_by(Execution.id)).all()
    assert kinds == ["manual", "manual", "manual", "auto-rollback"]


def test_without_the_setting_or_while_the_way_is_closed_it_waits_on(world):
    line(world, gives_way="false")
    first, second = start(world, "1.0"), start(world, "2.0")
    assert (world.statuses(first)[2]["Gate/Ask"], world.execution(second).inbound_stage) == ("Waiting", "Gate")
    answer(world, first, "anna", Verdict.REJECTED)
    answer(world, second, "anna")
    line(world)
    third = start(world, "3.0")
    with world.db.write() as session:
        disable_transition(session, "release", "Gate", reason="freeze", actor="op", now=world.now)
    fourth = start(world, "4.0")
    assert world.statuses(third)[2]["Gate/Ask"] == "Waiting", "nothing could come in for it"
    with world.db.write() as session:
        enable_transition(session, world.parts, "release", "Gate", actor="op", now=world.now)
    assert world.statuses(third)[0] == "Failed"
    assert world.statuses(fourth)[2]["Gate/Ask"] == "Waiting"


def test_an_approval_that_is_asked_for_with_a_newer_one_behind_it_expires_at_once(world):
    line(world, before=build("Unit"))
    first, second = start(world, "1.0"), start(world, "2.0")
    assert world.execution(second).inbound_stage == "Gate", "a build is waited for"
    with world.db.write() as session:
        world.end_build(world.action(first, "Gate/Unit").build_id)(session)
    assert world.statuses(first)[0] == "Failed"
    assert world.statuses(second)[1]["Gate"] == "InProgress"


# --- what is written down


@pytest.mark.parametrize(
    ("configuration", "told"),
    [
        ('{RequiredApprovals: "0"}', "no number from 1 to 20"),
        ('{RequiredApprovals: "two"}', "no number from 1 to 20"),
        ('{Approvers: "release, nobody-such"}', "no user or group nobody-such"),
        ('{Approvers: "user:release"}', "no user release"),
        ('{Approvers: "[1]"}', "a list of names"),
        ('{Approvers: "a b"}', "no name of a user or a group"),
        ('{Approvers: "#{src.Name}"}', "variables are not allowed"),
        ('{RequiredApprovals: "#{src.Name}"}', "variables are not allowed"),
        ('{NotByPublisher: "#{src.Name}"}', "variables are not allowed"),
        ('{NotByStarter: "yes"}', "neither 'true' nor 'false'"),
        ('{ExpiresWhenSuperseded: "true"}', "SUPERSEDED or QUEUED"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_applied(world, configuration, told):
    with pytest.raises((InvalidDocument, Invalid), match=told):
        world.apply(release(configuration))
    world.apply(release('{RequiredApprovals: "20", Approvers: "release,user:dirk"}'))


def test_names_are_read_as_a_list_or_between_commas():
    assert parse_approvers(' a, group:b ,a,"'.rstrip('",')) == ("a", "group:b")
    assert parse_approvers('["user:a", "b"]') == ("user:a", "b")


def test_what_an_approval_lets_through_ends_at_the_next_one(world):
    ship = (
        promotion("P", "staging")
        + build("B", more=", PublishRepository: 'prod'")
        + "    - name: D\n      configuration: {ApplicationName: shop, DeploymentGroupName: prod}\n"
        "      actionTypeId: {category: Deploy, owner: AWS, provider: CodeDeploy}\n"
    )
    world.apply(release("{}", ship=ship + approval("Again", run_order=2) + promotion("Q", "prod", run_order=3)))
    started = world.publish_and_start()
    assert asked(world, started).lets_through == (
        "promotion to staging",
        "build tests, which publishes to prod",
        "deployment to shop/prod",
        "then the next approval",
    )
    with world.db.read() as session:
        (told,) = session.scalars(sa.select(Event).where(Event.kind == "approval.needed"))
        assert session.scalar(sa.select(Account.name).where(Account.name == "anna"))
    assert told.payload["approve_on"] == ["default/staging", "default/prod", "default/dev"]
    assert (told.payload["approvers"], told.payload["required"]) == ([], 1)
