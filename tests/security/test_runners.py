"""H11: a runner that is another one, or was one: what it says is refused, and changes nothing."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from hooks.builds import runner_claims, runner_work
from hooks.jobs import remote
from hooks.models.build import Build
from hooks.models.build_output import BuildArtifact, BuildCache
from hooks.models.job import Job, JobQueue, JobState
from hooks.models.report import Report
from hooks.models.runner import BuildLease, BuildRunner
from registry.errors import RateLimited
from registry.models import Account
from registry.rates import CostClass
from tests.functional.api_world import World

SPEC = "version: 0.2\nphases:\n  build:\n    commands: ['true']\n"
SECRET = "correct-horse-battery"
AT = "2026-01-01T00:00:00+00:00"
PHASES = [{"phaseType": "BUILD", "startTime": AT, "phaseStatus": "SUCCEEDED", "endTime": AT, "contexts": []}]
DIGEST = "0" * 64
REPORT = {
    "group": "unit", "isWholeName": False, "type": "TEST", "fileFormat": "JUNITXML", "status": "SUCCEEDED", "message": "",
    "truncated": False, "cases": {"SUCCEEDED": 1}, "figures": [5, 0, 0, 0, 0],
}  # fmt: skip
CASE = ["report.xml", "", "suite", "name", "SUCCEEDED", 5, ""]


def zipped(text: str = "content") -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr(zipfile.ZipInfo("file.txt"), text)
    return body.getvalue()


def ending(status: str = "SUCCEEDED", log_bytes: int = 0) -> dict[str, Any]:
    return {"status": status, "phases": PHASES, "exportedVariables": {"SAID": "hello"}, "logBytes": log_bytes}


LINES = b"".join(json.dumps(each).encode() + b"\n" for each in (REPORT, CASE))
# All that can be said about a lease, each so that it does something for who holds it.
ABOUT: dict[str, tuple[str, str, Any]] = {
    "heartbeat": ("POST", "heartbeat", None),
    "log": ("PUT", "log?offset=0", b"a line\n"),
    "phases": ("PUT", "phases", {"phases": PHASES}),
    "facts": ("POST", "facts", {"imageDigest": f"sha256:{DIGEST}"}),
    "source": ("GET", "source?name=thing.tar.gz", None),
    "batch": ("POST", "batch", {"document": SPEC}),
    "values": ("POST", "values", {"references": [{"variable": "P", "type": "PARAMETER_STORE", "value": "/team/p"}]}),
    "artifacts": ("PUT", "artifacts/primary?name=out&packaging=ZIP&files=1", zipped()),
    "find cache": ("POST", "cache", {"version": DIGEST, "key": "k"}),
    "cache": ("PUT", f"cache?version={DIGEST}&key=k&files=1", zipped()),
    "reports": ("PUT", "reports", LINES),
    "give-back": ("POST", "give-back", {"error": "no room"}),
    "finish": ("POST", "finish", ending()),
}


@dataclass
class Machine:
    """A runner as its machine has it, with the build it was given last."""

    world: World
    name: str
    credential: str
    build: dict[str, Any] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: Any = None, lease: str | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self.credential}"}
        if lease is not None:
            headers["Entrepot-Lease"] = lease
        sent = {"data": body} if isinstance(body, bytes) else {"json": body}
        return self.world.http.open(f"/api/v1/runner{path}", method=method, headers=headers, **sent)

    def claim(
        self, *leases: str, environments: tuple[str, ...] = ("process",), slots: int = 9
    ) -> dict[str, Any] | None:
        said = {"protocol": 2, "host": "h", "version": "1", "environments": environments, "slots": slots}
        answer = self.ask("POST", "/claim", {**said, "leases": leases})
        assert answer.status_code == 200, answer.text
        self.build = answer.json["build"] or {}
        return answer.json["build"]

    def about(self, what: str, build: dict[str, Any] | None = None, token: str | None = None, body: Any = None) -> Any:
        build = build or self.build
        method, path, usual = ABOUT[what]
        return self.ask(
            method, f"/leases/{build['leaseId']}/{path}", usual if body is None else body, token or build["leaseToken"]
        )


@dataclass
class Yard:
    """A server with one project; builds and runners are made as they are needed."""

    world: World
    count: int = 0

    def project(self, name: str, **more: Any) -> None:
        document = {
            "name": name, "repository": "dev", "source": {"type": "NO_SOURCE"}, "buildspec": SPEC,
            "environment": {"type": "process", "network": "none"}, **more,
        }  # fmt: skip
        answer = self.world.call("PUT", f"/build-projects/{name}", json={"document": json.dumps(document)})
        assert answer.status_code == 200, answer.text

    def start(self, project: str = "plain", **more: Any) -> str:
        answer = self.world.call("POST", f"/build-projects/{project}/builds", json=more)
        assert answer.status_code == 201, answer.text
        return str(answer.json["id"])

    def token(self, **limits: Any) -> tuple[str, str]:
        self.count += 1
        answer = self.world.call("POST", "/runners", json={"name": f"runner-{self.count}", **limits})
        assert answer.status_code == 201, answer.text
        return answer.json["name"], answer.json["registrationToken"]

    def register(self, token: str) -> Any:
        said = {"protocol": 2, "host": "h", "version": "1", "environments": [], "slots": 0}
        headers = {"Authorization": f"Bearer {token}"}
        return self.world.http.post("/api/v1/runner/register", json=said, headers=headers)

    def machine(self, **limits: Any) -> Machine:
        name, token = self.token(**limits)
        answer = self.register(token)
        assert answer.status_code == 201, answer.text
        return Machine(self.world, name, answer.json["credential"])

    def working(self, machine: Machine, project: str = "plain") -> dict[str, Any]:
        """A build that the machine has."""
        build_id = self.start(project)
        build = machine.claim()
        assert build is not None
        assert build["id"] == build_id
        return build

    def expire(self, build_id: str) -> None:
        """Let its lease run out."""
        with self.world.db.write() as session:
            job_id = session.get_one(Build, build_id).job_id
            session.execute(update(Job).where(Job.id == job_id).values(lease_until=1.0))

    def written(self) -> dict[str, Any]:
        """All that runners can write."""
        with self.world.db.read() as session:
            found: dict[str, Any] = {}
            for model in (Build, Job, BuildArtifact, BuildCache, Report):
                columns = [column for column in model.__table__.columns if column.name != "renewed_at"]
                found[model.__tablename__] = [
                    tuple(row) for row in session.execute(select(*columns).order_by(columns[0]))
                ]
            return found

    def rest(self) -> None:
        """No build waits or runs."""
        with self.world.db.write() as session:
            session.execute(delete(Job))
            session.execute(delete(JobQueue))
            session.execute(
                update(Build).where(Build.ended_at.is_(None)).values(status="STOPPED", ended_at=self.world.now)
            )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    made = Yard(World(tmp_path_factory.mktemp("yard") / "data"))
    made.project("plain")
    made.project("keeping")
    answer = made.world.call("PUT", "/parameters/team/p", json={"value": SECRET, "projects": ["plain", "keeping"]})
    assert answer.status_code == 200, answer.text
    yield made
    made.world.close()


@pytest.fixture
def yard(shared: Yard) -> Iterator[Yard]:
    shared.world.now += timedelta(minutes=1)  # another minute of the limit on registrations
    yield shared
    shared.rest()


# --- who it is


def test_H11_a_registration_token_is_good_once_and_not_for_long(yard: Yard) -> None:
    _, token = yard.token()
    assert yard.register(token).status_code == 201
    assert yard.register(token).status_code == 401
    name, late = yard.token()
    yard.world.now += timedelta(hours=1, seconds=1)
    assert yard.register(late).status_code == 401
    fresh = yard.world.call("POST", f"/runners/{name}/registration-token").json["registrationToken"]
    assert yard.register(late).status_code == 401
    assert yard.register(fresh).status_code == 201
    for nonsense in ("", "x", yard.world.tokens["admin"]):
        assert yard.register(nonsense).status_code == 401


def test_H11_registering_anew_ends_the_credential_before(yard: Yard) -> None:
    old = yard.machine()
    build = yard.working(old)
    token = yard.world.call("POST", f"/runners/{old.name}/registration-token").json["registrationToken"]
    new = Machine(yard.world, old.name, yard.register(token).json["credential"])
    assert old.about("heartbeat").status_code == 401
    assert new.about("log", build).status_code in {200, 409}  # the same runner, if it still had the lease
    found = new.claim()
    assert found is not None
    assert (found["id"], found["attempt"]) == (build["id"], 2)


def test_H11_credentials_of_runners_and_of_people_open_nothing_of_each_other(yard: Yard) -> None:
    machine = yard.machine()
    build = yard.working(machine)
    before = yard.written()
    admin = Machine(yard.world, "admin", yard.world.tokens["admin"], build)
    for what in ABOUT:
        assert admin.about(what).status_code == 401, what
    assert admin.ask("POST", "/claim", {}).status_code == 401
    for method, path in (
        ("GET", "/runners"),
        ("GET", f"/builds/{build['id']}"),
        ("POST", "/users"),
        ("GET", "/build-projects"),
    ):
        for secret in (machine.credential, build["leaseToken"]):
            headers = {"Authorization": f"Bearer {secret}"}
            assert yard.world.http.open(f"/api/v1{path}", method=method, headers=headers, json={}).status_code == 401
    assert yard.world.http.post(f"/api/v1/runner/leases/{build['leaseId']}/heartbeat").status_code == 401
    assert yard.written() == before


# --- whose build it is


def test_H11_all_that_is_said_about_a_lease_is_tried_here(yard: Yard) -> None:
    rules = {rule.rule for rule in yard.world.api_rules("runner_api.") if "<lease>" in rule.rule}
    bound = yard.world.app.url_map.bind("localhost")
    tried = set()
    for method, path, _ in ABOUT.values():
        found, _ = bound.match(f"/api/v1/runner/leases/l/{path.partition('?')[0]}", method=method, return_rule=True)
        tried.add(found.rule)
    assert tried == rules


def test_H11_another_runners_build_is_nobody_elses(yard: Yard) -> None:
    owner, thief = yard.machine(), yard.machine()
    build = yard.working(owner)
    yard.working(thief)  # it has a build of its own
    before = yard.written()
    for what in ABOUT:
        assert thief.about(what, build).status_code == 403, what  # with the lease's own token, which it should not have
        assert thief.about(what, build, token=thief.build["leaseToken"]).status_code == 403, what
        assert owner.about(what, token=thief.build["leaseToken"]).status_code == 403, what
        assert owner.about(what, token="-").status_code == 403, what
        assert owner.about(what, {**build, "leaseId": "f" * 32}).status_code == 409, what
    assert yard.written() == before
    assert thief.claim(build["leaseId"], thief.build["leaseId"]) is None  # as if it were its own
    for what in ABOUT:  # while all of it works for who has it; giving it back ends that
        expected = {"finish": {409}, "source": {404}, "batch": {400}}.get(what, {200, 204})
        assert owner.about(what, build).status_code in expected, what


def test_H11_an_old_lease_writes_nothing(yard: Yard) -> None:
    first, second = yard.machine(), yard.machine()
    build = yard.working(first)
    yard.expire(build["id"])
    again = second.claim()
    assert again is not None
    assert (again["id"], again["attempt"]) == (build["id"], 2)
    before = yard.written()
    for what in ABOUT:
        answer = first.about(what, build)
        assert (answer.status_code, answer.json["code"]) == (409, "lease_lost"), what
    assert yard.written() == before
    assert second.about("finish").status_code == 204


def test_H11_negative_control_without_the_fence_an_old_lease_writes(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = yard.machine(), yard.machine()
    build = yard.working(first)
    yard.expire(build["id"])
    assert second.claim() is not None
    monkeypatch.setattr(runner_work, "require_held", lambda *_: None)
    before = yard.written()
    assert first.about("log", build).status_code == 200
    assert yard.written() != before


def test_H11_negative_control_without_the_owner_a_stranger_writes(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, thief = yard.machine(), yard.machine()
    build = yard.working(owner)
    with_its_own = runner_work.find_lease
    monkeypatch.setattr(
        runner_work,
        "find_lease",
        lambda session, lease_id, token, _runner, digest: with_its_own(
            session, lease_id, token, session.get_one(runner_claims.BuildLease, lease_id).runner_id, digest
        ),
    )
    assert thief.about("log", build).status_code == 200


@pytest.mark.parametrize("how", ["revoke", "delete"])
def test_H11_a_revoked_runner_is_heard_no_more_and_its_build_goes_on_elsewhere(yard: Yard, how: str) -> None:
    evil, good = yard.machine(), yard.machine()
    build = yard.working(evil)
    answer = (
        yard.world.call("POST", f"/runners/{evil.name}/revoke")
        if how == "revoke"
        else yard.world.call("DELETE", f"/runners/{evil.name}")
    )
    assert answer.status_code < 300
    before = yard.written()
    refused = 403 if how == "revoke" else 401
    for what in ABOUT:
        assert evil.about(what, build).status_code == refused, what
    assert evil.ask("POST", "/claim", {}).status_code == refused
    assert yard.written() == before
    again = good.claim()
    assert again is not None
    assert (again["id"], again["attempt"]) == (build["id"], 2)


def test_H11_the_end_is_said_once(yard: Yard) -> None:
    machine = yard.machine()
    build = yard.working(machine)
    assert machine.about("log", body=b"half").status_code == 200
    assert machine.about("finish", body=ending(log_bytes=5)).status_code == 409  # not all of the log is there
    assert machine.about("finish", body=ending(log_bytes=4)).status_code == 204
    before = yard.written()
    assert machine.about("finish", body=ending(log_bytes=4)).status_code == 204  # the answer got lost
    assert machine.about("finish", body=ending("FAILED", log_bytes=4)).status_code == 409
    assert machine.about("log").status_code == 409
    assert yard.written() == before
    assert yard.world.call("GET", f"/builds/{build['id']}").json["status"] == "SUCCEEDED"


# --- what it may say


def test_H11_what_no_honest_runner_says_is_refused(yard: Yard) -> None:
    machine = yard.machine()
    build = yard.working(machine)
    before = yard.written()
    bad = {
        "phases": [
            {"phases": []},
            {"phases": [{**PHASES[0], "phaseType": "PARTY"}]},
            {"phases": [{**PHASES[0], "startTime": "soon"}]},
            {"phases": [{**PHASES[0], "isAdmin": True}]},
        ],
        "facts": [{}, {"imageDigest": "latest"}, {"sourceIdentifier": "", "resolvedSourceVersion": "a" * 40}],
        "reports": [b"", b"[]\n", b"{}\n", LINES[:-5], LINES + b"nonsense\n", LINES + b'["x"]\n'],
        "values": [{"references": []}, {"references": [{"variable": "P", "type": "PLAINTEXT", "value": "x"}]}],
        "finish": [ending("FAULT"), ending("IN_PROGRESS"), {**ending(), "exportedVariables": {"1x": "y"}}],
        "log": [b"x" * (1024 * 1024 + 1)],
    }
    for what, bodies in bad.items():
        for body in bodies:
            assert machine.about(what, body=body).status_code in {400, 413}, (what, body)
    lease = build["leaseId"]
    for path in (
        "log?offset=1",
        "artifacts/..?name=x&packaging=ZIP&files=1",
        "artifacts/p%20q?name=x&packaging=ZIP&files=1",
    ):
        assert machine.ask("PUT", f"/leases/{lease}/{path}", zipped(), build["leaseToken"]).status_code in {
            400,
            404,
            409,
        }
    after = yard.written()
    # A report whose later lines are none stays unfinished, and is ended with the build.
    known = before.pop("report")
    assert {row[5] for row in after.pop("report") if row not in known} == {"GENERATING"}
    assert after == before


def test_H11_a_runner_has_only_the_builds_it_may_have(yard: Yard) -> None:
    yard.project("other")
    limited = yard.machine(projects=["other"])
    elsewhere = yard.machine(domains=["no-such-domain"])
    yard.start("plain")
    assert limited.claim() is None
    assert elsewhere.claim() is None
    wanted = yard.start("other")
    assert elsewhere.claim() is None
    assert limited.claim(environments=("container",)) is None
    assert limited.claim(slots=0) is None
    found = limited.claim()
    assert found is not None
    assert found["id"] == wanted


def test_limits_and_priorities_hold_for_runners_as_for_the_worker(yard: Yard) -> None:
    one, two = yard.machine(), yard.machine()
    yard.project("narrow", concurrentBuildLimit=1)
    first, urgent = yard.start("narrow"), yard.start("plain", priority=5)
    yard.start("narrow")
    found = one.claim()
    assert found is not None
    assert found["id"] == urgent
    held = [found["leaseId"]]
    found = one.claim(*held)
    assert found is not None
    assert found["id"] == first
    assert two.claim() is None  # of the project's builds one runs at a time
    yard.start("plain")
    with yard.world.db.write() as session:
        session.add(JobQueue(name="builds", max_running=2))
    assert two.claim() is None  # and two of all
    assert one.about("finish").status_code == 204
    assert two.claim() is not None


def test_a_build_whose_answer_got_lost_is_given_again_as_the_next_attempt(yard: Yard) -> None:
    machine = yard.machine()
    build = yard.working(machine)
    again = machine.claim()  # it says that it has none
    assert again is not None
    assert (again["id"], again["attempt"]) == (build["id"], 2)
    with yard.world.db.read() as session:
        held = session.scalars(select(Job.fence).where(Job.state == JobState.RUNNING)).all()
    assert len(held) == 1


def test_a_runner_that_could_not_run_it_gives_it_back_until_no_try_is_left(yard: Yard) -> None:
    machine = yard.machine()
    build_id = yard.start()
    for attempt in (1, 2, 3):
        with yard.world.db.write() as session:
            session.execute(update(Job).values(run_after=0.0))
        found = machine.claim()
        assert found is not None
        assert found["attempt"] == attempt
        assert machine.about("give-back").status_code == 204
        assert machine.about("log", found).status_code == 409
    shown = yard.world.call("GET", f"/builds/{build_id}").json
    assert (shown["status"], shown["message"]) == ("FAULT", "no room")


def test_the_log_arrives_once_and_without_secrets_however_it_is_cut(yard: Yard) -> None:
    machine = yard.machine()
    build = yard.working(machine)
    assert machine.about("values").json["values"][0]["value"] == SECRET
    sent = f"begin {SECRET} middle {build['leaseToken']} and {SECRET}".encode()
    offset = 0
    for size in (3, 10, 1, 20, 7, 50, 4, 1000):
        piece = sent[offset : offset + size]
        for _ in range(2):  # the answer got lost
            answer = machine.ask("PUT", f"/leases/{build['leaseId']}/log?offset={offset}", piece, build["leaseToken"])
            assert answer.json == {"end": offset + len(piece)}
        offset += len(piece)
    assert machine.about("finish", body=ending(log_bytes=len(sent))).status_code == 204
    log = yard.world.call("GET", f"/builds/{build['id']}/log").text
    assert log.endswith("begin *** middle *** and ***")


def test_what_a_runner_leaves_is_kept_as_of_the_worker(yard: Yard) -> None:
    machine = yard.machine()
    build = yard.working(machine, "keeping")
    assert machine.about("values").status_code == 200
    bad = machine.about("artifacts", body=zipped(SECRET))
    assert bad.status_code == 400
    assert SECRET not in bad.text
    kept = machine.about("artifacts").json
    assert kept["size"] == len(zipped())
    assert machine.about("reports").json == {"fault": ""}
    assert machine.about("find cache").status_code == 204
    assert machine.about("cache").json["sha256sum"] is not None
    restored = machine.about("find cache")
    assert (restored.data, restored.headers["Entrepot-Cache-Exact"]) == (zipped(), "1")
    secret = {**PHASES[0], "contexts": [{"statusCode": "CLIENT_ERROR", "message": f"it said {SECRET}"}]}
    told = {**ending("FAILED"), "phases": [secret], "exportedVariables": {"SAID": SECRET}}
    assert machine.about("finish", body=told).status_code == 204
    shown = yard.world.call("GET", f"/builds/{build['id']}").json
    assert (shown["message"], shown["exportedVariables"]) == ("it said ***", {"SAID": "***"})
    (report,) = yard.world.call("GET", f"/builds/{build['id']}/reports").json["items"]
    assert report["testSummary"]["total"] == 1


def test_a_stop_and_a_time_out_reach_the_runner(yard: Yard) -> None:
    machine = yard.machine()
    build = yard.working(machine)
    assert machine.about("heartbeat").json["stop"] is None
    assert yard.world.call("POST", f"/builds/{build['id']}/stop").status_code == 200
    assert machine.about("heartbeat").json["stop"] == "STOPPED"
    assert machine.about("finish", body=ending("STOPPED")).status_code == 204
    build = yard.working(machine)
    with yard.world.db.write() as session:
        session.execute(update(Job).where(Job.state == JobState.RUNNING).values(deadline=Job.started_at - 1))
    assert machine.about("heartbeat").json["stop"] == "TIMED_OUT"
    with yard.world.db.write() as session:
        session.execute(update(Job).where(Job.state == JobState.RUNNING).values(deadline=Job.started_at - 61))
    assert machine.about("heartbeat").status_code == 409  # it had its time to end it
    yard.expire(build["id"])
    remote.reap(yard.world.db, {"build"}, yard.world.hooks.runners.claims._attempts.settle)
    assert yard.world.call("GET", f"/builds/{build['id']}").json["status"] != "SUCCEEDED"


# --- what it was given


def is_live(yard: Yard, secret: str) -> bool:
    headers = {"Authorization": f"Bearer {secret}"}
    status = yard.world.http.get("/api/v1/whoami", headers=headers).status_code
    assert status in {200, 401}
    return status == 200


def lose(yard: Yard, machine: Machine) -> None:
    """The runner falls silent; nobody takes the build over, but a worker's rounds go on."""
    yard.expire(machine.build["id"])
    work = yard.world.hooks.runners.work
    work.close_lost()
    remote.reap(yard.world.db, {"build"}, yard.world.hooks.runners.claims._attempts.settle)
    work.close_lost()


GONE: dict[str, Callable[[Yard, Machine], Any]] = {
    "revoked": lambda yard, machine: yard.world.call("POST", f"/runners/{machine.name}/revoke"),
    "deleted": lambda yard, machine: yard.world.call("DELETE", f"/runners/{machine.name}"),
    "given back": lambda _, machine: machine.about("give-back"),
    "left": lambda _, machine: machine.about("give-back", body={"error": None}),
    "lost": lose,
}


@pytest.mark.parametrize("how", GONE)
def test_H11_the_tokens_of_a_build_end_with_its_runner_whoever_takes_it_next(reading: Yard, how: str) -> None:
    machine = reading.machine()
    build = reading.working(machine, "reading")
    tokens = [build["credentials"]["token"], build["publishing"]["token"]]
    assert [is_live(reading, token) for token in tokens] == [True, True]
    reading.world.hooks.runners.work.close_lost()  # which leaves alone what is held
    assert [is_live(reading, token) for token in tokens] == [True, True]
    assert machine.about("heartbeat").status_code == 200
    GONE[how](reading, machine)
    assert [is_live(reading, token) for token in tokens] == [False, False]
    if how == "lost":
        with reading.world.db.read() as session:
            states = session.scalars(select(BuildLease.sealed_state).where(BuildLease.build_id == build["id"])).all()
        assert states == [None]  # its secrets are remembered no longer


@pytest.fixture
def reading(yard: Yard) -> Yard:
    """A yard with a project whose builds read and publish."""
    with yard.world.db.read() as session:
        is_there = session.scalar(select(Account.id).where(Account.name == "builds")) is not None
    if not is_there:
        yard.world.account("builds", "read", "publish")
        environment = {"type": "process", "network": "registry"}
        yard.project("reading", environment=environment, publishRepository="staging")
    return yard


def test_H11_a_token_that_is_told_of_is_ended_and_the_telling_is_taken(yard: Yard) -> None:
    machine = yard.machine()
    yard.working(machine)
    shown = yard.world.token("reader", "read")
    assert is_live(yard, shown)
    assert machine.about("facts", body={"leakedTokens": [shown]}).status_code == 204
    assert not is_live(yard, shown)
    assert machine.about("finish").status_code == 204


def test_H11_a_build_that_writes_much_costs_no_other_its_lease(yard: Yard) -> None:
    machine = yard.machine()
    yard.working(machine)
    with yard.world.db.read() as session:
        runner_id = session.scalars(select(BuildRunner.id).where(BuildRunner.name == machine.name)).one()
    rates = yard.world.services.rates

    def ask_on_and_on() -> None:
        for _ in range(rates.rates[CostClass.MANAGE] * 2):
            rates.spend(CostClass.MANAGE, f"runner:{runner_id}", yard.world.now)

    with pytest.raises(RateLimited):
        ask_on_and_on()
    assert machine.about("log").status_code == 429
    assert machine.about("heartbeat").status_code == 200
