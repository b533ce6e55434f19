"""Steering pipelines from pages: answering, starting, stopping, retrying, and logs while they are written."""

import re
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from hooks.builds.phases import BuildStatus, Fault, Phase, PhaseRecord
from hooks.models.job import Job
from hooks.pages.builds import LOG_PAGE_BYTES
from tests.browser import reading
from tests.browser.site import PASSWORD, PIPELINE, Site, build

ASK = "Approve/ReleaseManager"


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    made = build(tmp_path)
    made.person("ada", ["admin"])
    made.person("mel", ["read", "approve"], ["default/*"])
    made.person("rob", ["read"], ["default/dev"])
    made.package("dev", "acme-tax", "1.0", by="ada")
    made.world.apply(PIPELINE)
    yield made
    made.world.close()


def sign_in(site: Site, name: str) -> FlaskClient:
    client = site.app.test_client()
    assert client.post("/sign-in", data={"user": name, "password": PASSWORD}).status_code == 303
    return client


def form_at(client: FlaskClient, path: str, action: str, **more: str) -> dict[str, str]:
    """The fields of a page's form, as a browser without script would send them."""
    for form in reading.parse(client.get(path).text).iter("form"):
        if form.attrib["action"].endswith(action):
            fields = {field.attrib["name"]: field.attrib.get("value", "") for field in form.iter("input")
                      if "name" in field.attrib and field.attrib.get("type") != "checkbox"}  # fmt: skip
            return {**fields, **more}
    raise AssertionError(f"{path} has no form for {action}")


def waiting(site: Site) -> int:
    started = site.start("acme-tax", "1.0")
    site.end_build(site.build_of(started))
    return started


# --- approvals


def test_an_approval_is_answered_with_what_was_shown(site):
    started = waiting(site)
    mel = sign_in(site, "mel")
    inbox = mel.get("/approvals").text
    digest = site.world.execution(started).summary.digest
    for shown in ("acme-tax 1.0", ">dev<", ">prod<", digest, "Published by", "ada", "Tried on the test cluster?"):
        assert shown in inbox, shown
    assert '<span class="count">1' in inbox
    form = form_at(mel, "/approvals", "/approval", verdict="Approved", comment="ran a week")
    answer = mel.post(f"/executions/{started}/approval", data=form)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/executions/{started}")
    page = mel.get(f"/executions/{started}").text
    assert "Approved. The execution goes on." in page
    assert "ran a week" in page
    decided = site.world.action(started, ASK)
    assert (decided.status, decided.decided_by, decided.comment) == ("Succeeded", "mel", "ran a week")
    site.world.work()
    assert site.world.execution(started).summary.status == "Succeeded"
    assert "acme-tax" in mel.get("/repositories/default/prod").text
    assert "Nothing waits for you" in mel.get("/approvals").text


def test_the_inbox_shows_what_went_before_and_what_an_answer_does(site):
    waiting(site)
    inbox = sign_in(site, "mel").get("/approvals").text
    assert 'title="Test: Succeeded"' in inbox
    assert "Approving starts this at once: promotion to prod." in inbox
    own = sign_in(site, "ada").get("/approvals").text
    assert "Approving lets" not in own
    assert "Rejecting fails the stage" in own


def test_a_rejection_fails_the_stage_and_retry_asks_anew(site):
    started = waiting(site)
    mel = sign_in(site, "mel")
    old = form_at(mel, f"/executions/{started}", "/approval", verdict="Rejected", comment="rounds wrong")
    assert mel.post(f"/executions/{started}/approval", data=old).status_code == 303
    assert site.world.execution(started).summary.status == "Failed"
    assert "Retry what failed" not in mel.get(f"/executions/{started}").text, "who may not publish may not retry"
    ada = sign_in(site, "ada")
    form = form_at(ada, f"/executions/{started}", "/retry", mode="FAILED_ACTIONS")
    assert ada.post(f"/executions/{started}/retry", data=form).status_code == 303
    # the page from before the retry is about another request: it must not answer this one
    stale = mel.post(f"/executions/{started}/approval", data={**old, "verdict": "Approved"})
    assert stale.status_code == 409
    assert "asked for anew" in stale.text
    assert site.world.action(started, ASK).status == "Waiting"
    history = mel.get(f"/executions/{started}").text
    assert "rounds wrong" in history
    assert reading.dangers(reading.parse(history)) == []


@pytest.mark.parametrize(
    ("name", "status", "words"), [("ada", 403, "may not approve it"), ("rob", 403, "may not approve in default/prod")]
)
def test_who_may_not_approve(site, name, status, words):
    started = waiting(site)
    token = site.world.action(started, ASK).token
    client = sign_in(site, name)
    page = client.get(f"/executions/{started}").text
    assert 'value="Approved"' not in page
    csrf = re.search(r'name="csrf_token" value="([^"]+)"', page)[1]
    form = {
        "csrf_token": csrf,
        "stage": "Approve",
        "action": "ReleaseManager",
        "token": token,
        "verdict": "Approved",
        "comment": "",
    }
    answer = client.post(f"/executions/{started}/approval", data=form)
    assert (answer.status_code, words in answer.text) == (status, True)
    assert site.world.action(started, ASK).status == "Waiting"
    # the control: the same form of somebody who may goes through
    mel = sign_in(site, "mel")
    form["csrf_token"] = re.search(r'name="csrf_token" value="([^"]+)"', mel.get("/account").text)[1]
    assert mel.post(f"/executions/{started}/approval", data=form).status_code == 303


def test_odd_answers_decide_nothing(site):
    started = waiting(site)
    mel = sign_in(site, "mel")
    form = form_at(mel, f"/executions/{started}", "/approval", verdict="Approved", comment="")
    for change, status in (
        ({"verdict": "Perhaps"}, 400),
        ({"comment": "x" * 513}, 400),
        ({"stage": "Nowhere"}, 404),
        ({"action": ""}, 404),
        ({"token": "0" * 32}, 409),
    ):
        assert mel.post(f"/executions/{started}/approval", data={**form, **change}).status_code == status, change
    assert mel.post("/executions/999/approval", data=form).status_code == 404
    assert site.world.action(started, ASK).status == "Waiting"


def test_what_waits_for_others_is_listed_apart(site):
    waiting(site)
    inbox = sign_in(site, "rob").get("/approvals").text
    assert "Nothing waits for you" in inbox
    assert "Waiting for others" in inbox
    assert "default/prod" in inbox
    assert '<span class="count">' not in inbox


# --- starting, stopping


def test_a_pipeline_is_started_by_hand_and_only_once(site):
    ada = sign_in(site, "ada")
    form = form_at(ada, "/pipelines/release", "/start", package="Acme_Tax", version="1.0.0")
    assert form["repository"] == "dev"
    first = ada.post("/pipelines/release/start", data=form)
    assert first.headers["Location"] == "/executions/1"
    assert "The execution has started." in ada.get("/executions/1").text
    again = ada.post("/pipelines/release/start", data=form)
    assert again.headers["Location"] == "/executions/1"
    assert len(site.world.executions()) == 1
    version = form_at(ada, "/packages/default/dev/pypi/acme-tax", "/start")
    assert ada.post("/pipelines/release/start", data=version).headers["Location"] == "/executions/2"
    assert "release #2" in ada.get("/packages/default/dev/pypi/acme-tax").text


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"version": "9"}, 404, "was not found"),
        ({"package": "other"}, 404, "was not found"),
        ({"repository": "nowhere"}, 404, "was not found"),
        ({"package": "-"}, 400, ""),
        ({"variable-SPEED": "fast"}, 400, "SPEED"),
    ],
)
def test_a_start_that_cannot_be_keeps_what_was_typed(site, change, status, words):
    ada = sign_in(site, "ada")
    form = {**form_at(ada, "/pipelines/release", "/start", package="acme-tax", version="1.0"), **change}
    answer = ada.post("/pipelines/release/start", data=form)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text
    assert f'value="{form["version"]}"' in answer.text
    assert reading.dangers(reading.parse(answer.text)) == []
    assert site.world.executions() == []


def test_starting_needs_the_right_to_publish(site):
    for name in ("mel", "rob"):
        client = sign_in(site, name)
        form = form_at(client, "/pipelines/release", "/start", package="acme-tax", version="1.0")
        assert client.post("/pipelines/release/start", data=form).status_code == 403
        assert "Start release" not in client.get("/packages/default/dev/pypi/acme-tax").text
    assert site.world.executions() == []


def test_an_execution_is_stopped_with_a_reason(site):
    started = site.start("acme-tax", "1.0")
    ada, rob = sign_in(site, "ada"), sign_in(site, "rob")
    form = form_at(ada, f"/executions/{started}", "/stop", reason="wrong version", abandon="on")
    csrf = re.search(r'name="csrf_token" value="([^"]+)"', rob.get("/account").text)[1]
    assert rob.post(f"/executions/{started}/stop", data={**form, "csrf_token": csrf}).status_code == 403
    assert ada.post(f"/executions/{started}/stop", data=form).status_code == 303
    assert "wrong version" in ada.get(f"/executions/{started}").text
    assert site.world.execution(started).summary.status == "Stopped"
    late = ada.post(f"/executions/{started}/stop", data=form)
    assert (late.status_code, "has ended already" in late.text) == (409, True)


def test_the_live_part_asks_on_while_something_runs(site):
    started = site.start("acme-tax", "1.0")
    ada = sign_in(site, "ada")
    part = ada.get(f"/executions/{started}/live").text
    assert f'data-refresh="/executions/{started}/live"' in part
    assert part.lstrip().startswith('<div class="stack" id="live"')
    site.end_build(site.build_of(started), BuildStatus.FAILED)
    part = ada.get(f"/executions/{started}/live").text
    assert "data-refresh" not in part
    assert f'data-finished="Execution {started}: Failed"' in part


# --- builds


def test_a_log_is_followed_piece_by_piece(site):
    started = site.start("acme-tax", "1.0")
    number = site.build_of(started)
    ada = sign_in(site, "ada")
    site.write_log(number, b"first\n\x1b[31msecond\nhal")
    page = ada.get(f"/builds/{number}").text
    url = re.search(r'data-log="([^"]+)"', page)[1].replace("&amp;", "&")
    assert 'id="L2"' in page
    assert ">hal<" not in page, "a line that is being written is not shown in halves"
    answer = ada.get(url)
    assert (answer.text, answer.headers["X-Log-Complete"]) == ("", "no")
    site.write_log(number, "f done\n\x1b[0mthird \xc3".encode("latin-1"))
    answer = ada.get(answer.headers["X-Log-Next"])
    assert (
        answer.text
        == '<div class="log-line" id="L3"><a href="#L3">3</a><span><span class="t-red">half done</span></span></div>'
    )
    site.write_log(number, b"\xa9\n")
    site.end_build(number)
    answer = ada.get(answer.headers["X-Log-Next"])
    assert answer.text == '<div class="log-line" id="L4"><a href="#L4">4</a><span>third é</span></div>'
    assert answer.headers["X-Log-Complete"] == "yes"
    assert "data-log" not in ada.get(f"/builds/{number}").text


def test_the_end_of_a_long_log_is_shown_with_its_own_line_numbers(site):
    started = site.start("acme-tax", "1.0")
    number = site.build_of(started)
    lines = [f"line {count} {'x' * (count % 90)}" for count in range(1, 30_001)]
    site.write_log(number, ("\n".join(lines) + "\n").encode())
    site.end_build(number)
    ada = sign_in(site, "ada")
    page = ada.get(f"/builds/{number}").text
    shown = re.findall(r'id="L(\d+)"><a href="#L\1">\1</a><span>line (\d+) ', page)
    assert len(shown) > 5000
    assert shown[-1] == ("30000", "30000")
    assert all(line == text for line, text in shown)
    assert "From the beginning" in page
    seen, path = [], f"/builds/{number}?from=0"
    while path:
        text = ada.get(path).text
        seen += re.findall(r'id="L(\d+)"', text)
        onward = re.search(r'href="([^"]+)">Next part', text)
        path = onward[1].replace("&amp;", "&") if onward else ""
    assert seen == [str(count) for count in range(1, 30_001)]


def test_one_endless_line_does_not_stop_the_log(site):
    number = site.build_of(site.start("acme-tax", "1.0"))
    site.write_log(number, b"x" * (LOG_PAGE_BYTES * 2 + 5))
    ada = sign_in(site, "ada")
    answer = ada.get(f"/builds/{number}/log")
    assert len(answer.text) < 20_000
    assert f"from={LOG_PAGE_BYTES}" in answer.headers["X-Log-Next"]
    for odd in ("from=-5", "from=99999999999", "from=x", "line=-1", "style=x", "from=0&line=99999999999999999999"):
        assert ada.get(f"/builds/{number}/log?{odd}").status_code == 200
    assert ada.get(f"/builds/{number}/log?style=%00").status_code == 400  # no page takes a NUL in any field


def test_the_raw_log_is_saved_and_not_shown(site):
    number = site.build_of(site.start("acme-tax", "1.0"))
    data = b"<script>alert(1)</script>\x1b[31m\n\xff"
    site.write_log(number, data)
    answer = sign_in(site, "ada").get(f"/builds/{number}/log.txt")
    assert answer.data == data
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="tests-1.log"'
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert answer.headers["Content-Length"] == str(len(data))


def test_a_failed_build_says_why_at_its_top_and_leads_back_to_its_pipeline(site):
    started = site.start("acme-tax", "1.0")
    build = site.build_of(started)
    moment = site.clock()
    why = Fault("COMMAND_EXECUTION_ERROR", "Error while executing command: pytest.")
    site.record_phases(build, PhaseRecord(Phase.BUILD, moment, BuildStatus.FAILED, moment, (why,)))
    site.end_build(build, BuildStatus.FAILED)
    shown = sign_in(site, "ada").get(f"/builds/{build}").text
    assert shown.count("Build: Error while executing command: pytest.") == 1
    assert '<a href="/pipelines/release">release</a>' in shown
    assert f'<a href="/executions/{started}">#{started}</a>' in shown


def test_a_build_is_stopped_by_who_may_publish(site):
    started = site.start("acme-tax", "1.0")
    number = site.build_of(started)
    ada, rob = sign_in(site, "ada"), sign_in(site, "rob")
    assert "Stop the build" not in rob.get(f"/builds/{number}").text
    form = form_at(ada, f"/builds/{number}", "/stop")
    csrf = re.search(r'name="csrf_token" value="([^"]+)"', rob.get("/account").text)[1]
    assert rob.post(f"/builds/{number}/stop", data={"csrf_token": csrf}).status_code == 403
    assert ada.post(f"/builds/{number}/stop", data=form).status_code == 303
    with site.services.db.read() as session:
        assert session.scalar(sa.select(Job.state).where(Job.kind == "build")) == "stopped"
    assert site.world.build(number).status == "STOPPED"
    assert site.world.execution(started).summary.status == "Failed", "what waited for it goes on"
    late = ada.post(f"/builds/{number}/stop", data=form)
    assert (late.status_code, "has ended" in late.text) == (409, True)


# --- stages that let in one execution at a time


def test_a_stage_is_closed_opened_and_rolled_back_from_pages(site):
    site.package("dev", "acme-tax", "1.1", by="ada")
    site.world.apply(PIPELINE.replace("name: release", "name: serial\nexecutionMode: SUPERSEDED"))
    ada, mel, rob = (sign_in(site, name) for name in ("ada", "mel", "rob"))
    first, second = (site.start("acme-tax", version, pipeline="serial") for version in ("1.0", "1.1"))
    page = ada.get("/pipelines/serial").text
    assert "Waiting before it" in page
    assert f'/executions/{second}"' in page
    assert (
        f"Waits before Test: execution {first} is in stage Test, which takes one at a time."
        in ada.get(f"/executions/{second}").text
    )
    assert "Close the way in" in page
    assert "Close the way in" not in mel.get("/pipelines/serial").text

    form = {"stage": "Promote", "to": "closed", "reason": "freeze <until> Monday"}
    token = form_at(ada, "/pipelines/serial", "/transition")["csrf_token"]
    place = "/pipelines/serial/transition"
    assert ada.post(place, data={**form, "csrf_token": token, "reason": ""}).status_code == 400
    assert ada.post(place, data={**form, "csrf_token": token}).status_code == 303
    page = ada.get("/pipelines/serial").text
    assert "Closed by ada: freeze &lt;until&gt; Monday" in page
    site.end_build(site.build_of(first))
    answer = form_at(mel, f"/executions/{first}", "/approval", verdict="Approved")
    assert mel.post(f"/executions/{first}/approval", data=answer).status_code == 303
    assert "Waits before Promote: ada closed the way into Promote: freeze" in rob.get(f"/executions/{first}").text
    opening = form_at(ada, "/pipelines/serial", "/transition", stage="Promote", to="open")
    assert ada.post(place, data=opening).status_code == 303
    site.world.work()
    assert site.world.execution(first).summary.status == "Succeeded"

    assert "Roll back to this" not in rob.get(f"/executions/{first}").text
    rolling = form_at(mel, f"/executions/{first}", "/rollback", stage="Promote")
    denied = {**rolling, "csrf_token": form_at(rob, "/account", "/sign-out")["csrf_token"]}
    assert rob.post(f"/executions/{first}/rollback", data=denied).status_code == 403
    answer = mel.post(f"/executions/{first}/rollback", data=rolling)
    assert answer.status_code == 303
    back = ada.get(answer.headers["Location"]).text
    assert f'a rollback to <a href="/executions/{first}">#{first}</a>' in back
    assert "UnitTests" not in back, "the one stage is all that it runs"


GATED = PIPELINE.replace("name: release", "name: gated\nexecutionMode: SUPERSEDED").replace(
    "  - name: Promote\n",
    """  - name: Promote
    beforeEntry:
      conditions:
      - result: FAIL
        rules:
        - name: Window
          ruleTypeId: {category: Rule, owner: AWS, provider: DeploymentWindow, version: "1"}
          configuration: {Cron: "0 0 0 1 1 ? 2065"}
          timeoutInMinutes: 86400
""",
)


def test_gates_are_shown_and_passed_on_pages(site):
    assert GATED.count("beforeEntry") == 1
    site.package("dev", "acme-tax", "1.2", by="ada")
    site.world.apply(GATED)
    ada, mel, rob = (sign_in(site, name) for name in ("ada", "mel", "rob"))
    first = site.start("acme-tax", "1.0", pipeline="gated")
    site.end_build(site.build_of(first))
    answer = form_at(mel, f"/executions/{first}", "/approval", verdict="Approved")
    assert mel.post(f"/executions/{first}/approval", data=answer).status_code == 303
    shown = rob.get(f"/executions/{first}").text
    assert "waits for the window 0 0 0 1 1 ? 2065 (UTC)" in shown
    assert "Override the condition" not in shown
    form = form_at(mel, f"/executions/{first}", "/override", reason="agreed <with> ops")
    place = f"/executions/{first}/override"
    assert mel.post(place, data={**form, "reason": ""}).status_code == 400
    denied = {**form, "csrf_token": form_at(rob, "/account", "/sign-out")["csrf_token"]}
    assert rob.post(place, data=denied).status_code == 403
    assert mel.post(place, data=form).status_code == 303
    site.world.work()
    shown = rob.get(f"/executions/{first}").text
    assert "Overridden by mel: “agreed &lt;with&gt; ops”" in shown
    assert "overrode the condition before entry of Promote" in shown

    form = form_at(
        ada, "/pipelines/gated", "/freeze", freeze="holidays", reason="nobody <is> here", ends_at="2199-01-02T10:00"
    )
    assert "Freeze this pipeline" not in mel.get("/pipelines/gated").text
    assert ada.post("/pipelines/gated/freeze", data={**form, "ends_at": "soon"}).status_code == 400
    assert ada.post("/pipelines/gated/freeze", data=form).status_code == 303
    page = mel.get("/pipelines/gated").text
    assert "Frozen until 2199-01-02 10:00 UTC by holidays: nobody &lt;is&gt; here" in page
    second = site.start("acme-tax", "1.2", pipeline="gated")
    assert "frozen until 2199-01-02 10:00 UTC by holidays" in rob.get(f"/executions/{second}").text
    assert "Let it through" not in mel.get(f"/executions/{second}").text
    form = form_at(ada, f"/executions/{second}", "/pass", reason="security fix")
    assert ada.post(f"/executions/{second}/pass", data=form).status_code == 303
    assert site.world.execution(second).inbound_stage is None
    form = form_at(ada, "/pipelines/gated", "/unfreeze")
    assert ada.post("/pipelines/gated/unfreeze", data=form).status_code == 303
    assert "Frozen until" not in ada.get("/pipelines/gated").text

    rolling = form_at(mel, f"/executions/{first}", "/rollback", stage="Promote")
    assert mel.post(f"/executions/{first}/rollback", data=rolling).status_code == 303
    page = rob.get("/pipelines/gated").text
    assert "acme-tax is held: mel rolled Promote back" in page
    assert "Release Promote" not in page
    form = form_at(mel, "/pipelines/gated", "/release", reason="fixed")
    denied = {**form, "csrf_token": denied["csrf_token"]}
    assert rob.post("/pipelines/gated/release", data=denied).status_code == 403
    assert mel.post("/pipelines/gated/release", data=form).status_code == 303
    assert "is held" not in rob.get("/pipelines/gated").text
    assert mel.post("/pipelines/gated/release", data=form).status_code == 409


UNGUARDED = re.sub(r"  - name: Approve\n.*?(?=  - name: Promote)", "", PIPELINE, flags=re.DOTALL).replace(
    "  - name: Test\n",
    """  - name: Test
    onSuccess:
      conditions:
      - result: FAIL
        rules:
        - name: Check
          ruleTypeId: {category: Rule, owner: AWS, provider: VariableCheck, version: "1"}
          configuration: {Variable: "#{src.Version}", Value: "9", Operator: EQ}
""",
)


def test_a_condition_on_success_is_overridden_by_who_may_approve_what_comes_next(site):
    """Nobody is asked between it and the promotion: the right on the stage that has ended is not enough."""
    assert UNGUARDED.count("onSuccess") == 1
    assert "Approval" not in UNGUARDED
    site.person("lee", ["read", "approve"], ["default/dev"])
    site.world.apply(UNGUARDED.replace("name: release", "name: unguarded"))
    lee, mel = sign_in(site, "lee"), sign_in(site, "mel")
    started = site.start("acme-tax", "1.0", pipeline="unguarded")
    site.end_build(site.build_of(started))
    page, place = f"/executions/{started}", f"/executions/{started}/override"
    form = form_at(mel, page, "/override", reason="agreed")
    assert "Override the condition" not in lee.get(page).text
    refused = lee.post(place, data={**form, "csrf_token": form_at(lee, "/account", "/sign-out")["csrf_token"]})
    assert (refused.status_code, "default/prod" in refused.text) == (403, True)
    assert mel.post(place, data=form).status_code == 303
    site.world.work()
    assert site.world.execution(started).summary.status == "Succeeded"
