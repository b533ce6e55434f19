"""Pages of deployments, as a browser reads them and as forms are sent: what is where, and what somebody may do."""

import re
from collections.abc import Iterator, Sequence
from html import unescape

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event, select, update

from hooks.deployments.planning import Minimum, Rules, TargetView, Zonal
from hooks.deployments.platforms.dummy import DummyPlatform
from hooks.deployments.target_list import waves
from hooks.models.deployment import (
    Deployment,
    DeploymentAlarm,
    DeploymentApplication,
    DeploymentEvent,
    DeploymentInstallation,
    DeploymentTarget,
)
from hooks.pages.deployment_words import facts_of_group, pace, steps_of
from registry.models import AuditEntry
from tests.browser import corpus, reading
from tests.browser.site import PASSWORD, Site, build
from tests.fakes.deployed import AT_ONCE, HALF, ONE, WHY, Deployed

MOST_QUERIES = 12


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = build(tmp_path_factory.mktemp("deployments"))
    made.person("ada", ["admin"])
    made.person("rob", ["read"], ["default/*"])
    made.person("dora", ["read", "promote"], ["default/*"])
    made.person("stranger", ["read"], ["default/dev"])
    for repository, version in (("dev", "1.0"), ("dev", "1.1"), ("dev", "1.2"), ("prod", "1.0")):
        made.package(repository, "acme-billing", version)
    yield made
    made.world.close()


@pytest.fixture(scope="module")
def deployed(site: Site) -> Deployed:
    return Deployed(site)


@pytest.fixture(scope="module")
def shop(deployed: Deployed) -> int:
    """An application with a group in which 1.0 is, and one to which nothing was deployed yet."""
    shop = deployed.application("shop")
    deployed.group(shop, "prod", ["web-1", "web-2"], deploymentConfigName=ONE)
    deployed.group(shop, "staging", ["stage-1"])
    assert deployed.finish(deployed.deploy("shop", "prod", "1.0", description="The very first")) == "Succeeded"
    return shop


class Browser:
    """Somebody's browser."""

    def __init__(self, site: Site, name: str) -> None:
        self.site = site
        self.client: FlaskClient = site.app.test_client()
        assert self.client.post("/sign-in", data={"user": name, "password": PASSWORD}).status_code == 303
        self.token = re.findall(r'name="csrf_token" value="([^"]+)"', self.client.get("/account").text)[0]

    def html(self, path: str, status: int = 200) -> str:
        answer = self.client.get(path, headers={"Accept": "text/html"})
        assert answer.status_code == status, (path, answer.status)
        return answer.text

    def text(self, path: str, status: int = 200) -> str:
        return words(self.html(path, status))

    def send(self, path: str, status: int = 303, **form: str | Sequence[str]) -> str:
        """Where a form leads to, or what the page says that is shown again."""
        answer = self.client.post(path, data={"csrf_token": self.token, **form}, headers={"Accept": "text/html"})
        assert answer.status_code == status, (path, answer.status, words(answer.text)[-600:])
        return answer.headers["Location"] if status == 303 else words(answer.text)


def words(html: str) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))).strip()


@pytest.fixture(scope="module")
def ada(site: Site) -> Browser:
    return Browser(site, "ada")


@pytest.fixture(scope="module")
def dora(site: Site) -> Browser:
    return Browser(site, "dora")


@pytest.fixture(scope="module")
def rob(site: Site) -> Browser:
    return Browser(site, "rob")


@pytest.fixture(scope="module")
def stranger(site: Site) -> Browser:
    return Browser(site, "stranger")


# --- what is where ---------------------------------------------------------------------------------------------------


def test_the_list_and_the_board_say_which_version_is_where(ada: Browser, deployed: Deployed, shop: int) -> None:
    assert re.search(r"prod 1\.0 Succeeded d-\w{9} .* by ada .* 2 staging nothing yet none", ada.text("/deployments"))
    going = deployed.deploy("shop", "staging", "1.1")
    board = ada.text("/environments")
    assert re.search(r"prod 1\.0 since .* by ada 2 targets staging nothing yet In progress 1\.1", board)
    assert f'href="/deployments/{going}"' in ada.html("/deployments")
    assert "nothing yet" in ada.text("/environments/live")
    assert deployed.finish(going) == "Succeeded"
    assert re.search(r"staging 1\.1 since", ada.text("/environments/live"))


def test_an_application_has_its_groups_revisions_and_deployments(
    ada: Browser, rob: Browser, deployed: Deployed, shop: int
) -> None:
    text = ada.text("/applications/shop")
    assert "domain default machines ( Server )" in text
    assert re.search(r"acme-billing 1\.0 of default/dev .*? prod Deploy again", text)
    assert "The very first" in text
    assert "Deploy again" not in rob.text("/applications/shop")
    assert "No groups yet" in ada.text(f"/applications/{made_empty(deployed)}")


def made_empty(deployed: Deployed) -> str:
    deployed.application("empty")
    return "empty"


def test_a_group_says_in_words_what_its_document_means(ada: Browser, deployed: Deployed, site: Site) -> None:
    application = deployed.application("told")
    filters = [{"Key": "role", "Value": "web", "Type": "KEY_AND_VALUE"}]
    deployed.group(
        application, "prod", ["told-1"], ec2TagFilters=filters, maxConcurrent=3, bakeTimeInMinutes=10,
        deploymentConfigName=HALF, alarmConfiguration={"enabled": True, "alarms": [{"name": "errors"}, {"name": "quiet"}]},
        autoRollbackConfiguration={"enabled": True, "events": ["DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM"]},
    )  # fmt: skip
    with site.services.db.write() as session:
        alarm = {"state": "ALARM", "reason": "12 errors a second", "created_by": "ada"}
        now = site.clock()
        session.add(DeploymentAlarm(domain="default", name="errors", created_at=now, updated_at=now, **alarm))
    text = ada.text("/applications/told/groups/prod")
    for told in (
        "machines with role=web",
        "at least 50 % stay healthy; at most 3 at a time (CodeDeployDefault.HalfAtATime)",
        "when it fails or an alarm stops it",
        "for 10 minutes",
        "ALARM errors",
        "12 errors a second",
        "no data quiet",
        "told-1 nothing empty",
    ):
        assert told in text, told


def test_a_group_shows_what_is_really_installed_and_the_worst_first(
    ada: Browser, deployed: Deployed, site: Site, shop: int
) -> None:
    application = deployed.application("drifting")
    deployed.group(application, "prod", ["a-fine", "b-changed", "c-other", "d-broken"])
    first = deployed.deploy("drifting", "prod", "1.0")
    deployed.run(first, "d-broken", fails="ValidateService")
    deployed.finish(first)
    seen = {
        "a-fine": {"deploymentId": first, "changedCount": 0},
        "b-changed": {"deploymentId": first, "changedCount": 2, "missingCount": 1, "changed": ["/srv/shop/x.ini"]},
        "c-other": {"deploymentId": "d-ELSEWHERE"},
    }
    with site.services.db.write() as session:
        for row in session.scalars(select(DeploymentInstallation).where(DeploymentInstallation.target.in_(seen))):
            row.found, row.found_at = seen[row.target], site.clock()
    text = ada.text("/applications/drifting/groups/prod")
    order = [text.index(f" {name} ") for name in ("d-broken", "b-changed", "c-other", "a-fine")]
    assert order == sorted(order)
    assert re.search(r"d-broken 1\.0 unhealthy", text)
    assert re.search(r"b-changed 1\.0 current 3 changed Which files of b-changed /srv/shop/x\.ini", text)
    assert "another deployment the agent has seen d-ELSEWHERE" in text
    assert "1 unhealthy 2 drifted" in text


def test_histories_go_on_by_their_last_deployment(ada: Browser, deployed: Deployed) -> None:
    application = deployed.application("busy")
    deployed.group(application, "prod", [])
    made = [deployed.deploy("busy", "prod", "1.0") for _ in range(21)]  # without targets each has ended at once
    for path in ("/applications/busy", "/applications/busy/groups/prod"):
        seen: list[str] = []
        following: str | None = path
        while following:
            html = ada.html(following)
            table = html[html.index('id="deployments"') :]
            seen += re.findall(r'<th scope="row"[^>]*><a[^>]* href="/deployments/(d-\w+)"', table)
            found = re.search(r'href="([^"]*before=[^"#]+)', table)
            following = unescape(found[1]) if found else None
        assert seen == made[::-1]
    other = deployed.deploy("shop", "prod", "1.0")
    ada.html(f"/applications/busy?before={other}", 404)
    deployed.finish(other)


def test_a_version_says_where_it_is_installed(
    ada: Browser, rob: Browser, stranger: Browser, deployed: Deployed
) -> None:
    application = deployed.application("placed")
    deployed.group(application, "prod", ["p-1", "p-2", "p-3", "p-4"], dummyEvents=["Install"])
    panel = re.compile(r"placed / prod since .*? from dev p-1, p-2, p-3 and 1 more")
    page = "/packages/default/dev/pypi/acme-billing/-/1.2"
    assert "Deployed to" not in rob.text(page)
    deployed.finish(deployed.deploy("placed", "prod", "1.2"))
    assert panel.search(rob.text(page))
    assert not panel.search(ada.text("/packages/default/dev/pypi/acme-billing/-/1.1"))
    assert "placed" not in stranger.text(page), "applications are for who may see the domain"
    deployed.finish(deployed.deploy("placed", "prod", "1.0"))
    assert "Deployed to" not in rob.text(page)
    assert panel.search(rob.text("/packages/default/prod/pypi/acme-billing/-/1.0")), "the same version, wherever it is"


# --- a deployment ----------------------------------------------------------------------------------------------------


def test_a_deployment_that_goes_on_and_fails_and_is_rolled_back(ada: Browser, site: Site, deployed: Deployed) -> None:
    application = deployed.application("falling")
    rollback = {"enabled": True, "events": ["DEPLOYMENT_FAILURE"]}
    deployed.group(application, "prod", ["f-1", "f-2"], autoRollbackConfiguration=rollback)
    deployed.finish(deployed.deploy("falling", "prod", "1.0"))
    bad = deployed.deploy("falling", "prod", "1.1", config=ONE, description="Faster invoices")
    deployed.step(bad, "f-1", ends=False)
    html = ada.html(f"/deployments/{bad}")
    assert f'data-refresh="/deployments/{bad}/live"' in html
    text = words(html)
    for told in ("1.1 to falling / prod", "In progress", "1 in progress 1 pending", "one target at a time", "Faster invoices",
                 "2 waves", "acme-billing 1.0 of default/dev", "0 of 3 lifecycle events"):  # fmt: skip
        assert told in text, told
    deployed.step(bad, "f-1")
    deployed.run(bad, "f-1", fails="ValidateService")
    text = ada.text(f"/deployments/{bad}/live")
    assert "ValidateService ScriptFailed (4)" in text
    assert WHY in text
    assert "curl: (7) refused" in text, "the end of its log is there, without the escape sequences"
    assert "[31m" not in text
    with site.services.db.read() as session:
        back = session.get_one(Deployment, bad).rolled_back_by
    assert f"Rolled back by {back} : automatic, after {bad} failed" in text
    assert 'data-finished="Deployment' in ada.html(f"/deployments/{bad}/live")
    deployed.advance(back)
    assert deployed.finish(back) == "Succeeded"
    text = ada.text(f"/deployments/{back}")
    assert f"This rolls back {bad}" in text
    assert "1.0 to falling / prod" in text
    assert "system as a rollback" in text


def test_a_targets_page_has_all_its_logs(ada: Browser, deployed: Deployed, shop: int) -> None:
    done = deployed.deploy("shop", "staging", "1.1")
    deployed.step(done, "stage-1", log="one \x1b[32mgreen\x1b[0m <b>bold</b> \u202eevil\n")
    deployed.finish(done)
    path = f"/deployments/{done}/targets/{deployed.target_id(done, 'stage-1')}"
    html = ada.html(path)
    assert '<span class="t-green">green</span> &lt;b&gt;bold&lt;/b&gt;' in html
    assert "U+202E" in html
    assert html.count('class="tail"') == 3
    assert 'class="tail"' not in ada.html(f"/deployments/{done}"), "what went well has no log beside others"
    ada.html(f"/deployments/{done}/targets/999999", 404)
    ada.html(f"/deployments/{done}/targets/{2**40}", 404)


def test_two_hundred_targets_come_the_worst_first_and_few_at_a_time(
    ada: Browser, site: Site, deployed: Deployed
) -> None:
    application = deployed.application("fleet")
    deployed.group(application, "all", [f"node-{number:03}" for number in range(200)], dummyEvents=["Install"])
    going = deployed.deploy("fleet", "all", "1.0", config=ONE)
    deployed.step(going, "node-000", ends=False)
    with site.services.db.write() as session:
        for name, status in (("node-150", "Failed"), ("node-120", "Succeeded"), ("node-121", "Skipped")):
            mine = (DeploymentTarget.deployment_id == going) & (DeploymentTarget.name == name)
            session.execute(update(DeploymentTarget).where(mine).values(status=status))
    shown = re.compile(r'href="/deployments/[^"]+/targets/\d+">(node-\d+)')
    html = ada.html(f"/deployments/{going}")
    assert shown.findall(html) == ["node-150", "node-000", *(f"node-{number:03}" for number in range(1, 23))]
    assert len(html) < 80_000
    seen, following = [], f"/deployments/{going}"
    while following:
        html = ada.html(following)
        seen += shown.findall(html)
        found = re.search(r'href="([^"]+)">Next page', html)
        following = unescape(found[1]) if found else ""
    assert (len(seen), len(set(seen)), seen[-2:]) == (200, 200, ["node-121", "node-120"])
    assert shown.findall(ada.html(f"/deployments/{going}?show=Failed")) == ["node-150"]
    assert "170 more" not in words(html)
    assert re.search(r"30 waves and more", words(html))
    group = ada.html("/applications/fleet/groups/all")
    assert (group.count('class="name-cell">node-'), "Next page" in group) == (50, True)


def test_hostile_texts_stay_text(ada: Browser, site: Site, deployed: Deployed) -> None:
    bad, application = corpus.PAYLOAD, deployed.application("hostile")
    deployed.group(application, "prod", ["h-1"], link="/opt/" + bad)
    failed = deployed.deploy("hostile", "prod", "1.0", description=bad[:256], guidedFailure=True)
    deployed.run(failed, "h-1", fails="Install")
    with site.services.db.write() as session:
        row = session.get_one(Deployment, failed)
        row.initiator, row.error_code, row.error_message, row.rollback_message = bad, bad[:64], bad, bad
        row.details = {**row.details, "alarms": {bad: {"state": bad, "failure": bad}}}
        row.revision = {**row.revision, "package": {**row.revision["package"], "version": bad, "name": bad}}
        target = session.scalars(select(DeploymentTarget).where(DeploymentTarget.deployment_id == failed)).one()
        target.zone, target.details = bad[:64], {"address": bad}
        mine = DeploymentEvent.target_id == target.id
        session.execute(update(DeploymentEvent).where(mine).values(message=bad, script=bad))
        for kept in session.scalars(select(DeploymentInstallation).where(DeploymentInstallation.target == "h-1")):
            kept.found = {"deploymentId": bad, "changedCount": 1, "changed": [bad]}
    for path in ("/deployments", "/environments", "/applications/hostile", "/applications/hostile/groups/prod",
                 "/applications/hostile/deploy", f"/deployments/{failed}",
                 f"/deployments/{failed}/targets/{deployed.target_id(failed, 'h-1')}"):  # fmt: skip
        html = ada.html(path)
        assert "&lt;svg onload=alert(1)&gt;" in html, path
        assert reading.dangers(reading.parse(html)) == [], path
    live = ada.html(f"/deployments/{failed}/live")
    assert reading.dangers(reading.fragment(live)) == []


def test_no_page_asks_the_database_often(ada: Browser, site: Site, deployed: Deployed, shop: int) -> None:
    going = deployed.deploy("shop", "prod", "1.1")
    target = deployed.target_id(going, "web-1")
    asked: list[str] = []

    def note(*arguments: object) -> None:
        asked.extend([str(arguments[2])] if not str(arguments[2]).startswith("BEGIN") else [])

    event.listen(site.services.db.engine, "before_cursor_execute", note)
    for path in ("/deployments", "/environments", "/environments/live", "/applications/shop", "/applications/shop/deploy",
                 "/applications/shop/groups/prod", "/applications/told/groups/prod", f"/deployments/{going}",
                 f"/deployments/{going}/live", f"/deployments/{going}/targets/{target}"):  # fmt: skip
        asked.clear()
        ada.html(path)
        assert 3 < len(asked) <= MOST_QUERIES, (path, asked)
    event.remove(site.services.db.engine, "before_cursor_execute", note)
    deployed.finish(going)


# --- steering --------------------------------------------------------------------------------------------------------


def test_a_deployment_is_paused_resumed_and_stopped(
    dora: Browser, rob: Browser, site: Site, deployed: Deployed, shop: int
) -> None:
    going = deployed.deploy("shop", "prod", "1.1")
    page = f"/deployments/{going}"
    assert acts(rob.html(page)) == set(), "who may only look is shown no buttons"
    for word in ("stop", "pause", "resume", "continue", "retry", "rollback"):
        rob.send(f"{page}/{word}", 403)
    assert acts(dora.html(page)) == {"stop", "pause"}
    assert dora.send(f"{page}/pause") == page
    text = dora.text(page)
    assert "Paused by dora: nothing more begins until somebody resumes it" in text
    assert acts(dora.html(page)) == {"stop", "resume"}
    assert "paused already" in dora.send(f"{page}/pause", 409)
    dora.send(f"{page}/resume")
    assert "rollback is yes, no or empty" in dora.send(f"{page}/stop", 400, rollback="perhaps").lower()
    assert dora.send(f"{page}/stop", rollback="yes") == page
    with site.services.db.read() as session:
        row = session.get_one(Deployment, going)
        assert (row.status, row.stopped_by) == ("Stopped", "dora")
        back = row.rolled_back_by
        stops = select(AuditEntry.actor).where(AuditEntry.action == "deployment.stop")
        assert session.scalars(stops.where(AuditEntry.object.endswith(going))).all() == ["dora"]
    assert back is not None
    text = dora.text(page)
    assert "MANUAL_STOP: stopped by dora" in text
    assert f"Rolled back by {back}" in text
    assert acts(dora.html(page)) == {"retry"}
    deployed.advance(back)
    assert deployed.finish(back) == "Succeeded"


def acts(html: str) -> set[str]:
    """What a deployment's page offers."""
    return set(re.findall(r'action="/deployments/d-\w+/(?:targets/\d+/)?(\w+)"', html))


def test_failed_targets_are_retried_and_a_success_is_rolled_back(dora: Browser, site: Site, deployed: Deployed) -> None:
    application = deployed.application("again")
    deployed.group(application, "prod", ["r-1", "r-2"])
    deployed.finish(deployed.deploy("again", "prod", "1.0"))
    partly = deployed.deploy("again", "prod", "1.1")
    deployed.run(partly, "r-1", fails="Install")
    deployed.run(partly, "r-2")
    page = f"/deployments/{partly}"
    assert "Retry on 1 target" in dora.text(page)
    again = dora.send(f"{page}/retry", skip="ApplicationStop").rpartition("/")[2]
    deployed.advance(again)
    text = dora.text(f"/deployments/{again}")
    assert f"Repeats {partly} on the targets that did not succeed there" in text
    assert "Skips ApplicationStop" in text
    assert "r-2" not in text
    assert deployed.finish(again) == "Succeeded"
    back = dora.send(f"/deployments/{again}/rollback").rpartition("/")[2]
    assert "has been rolled back already" in dora.send(f"/deployments/{again}/rollback", 409)
    assert f"This rolls back {again} : asked for by dora" in dora.text(f"/deployments/{back}")
    assert "rollback" not in acts(dora.html(f"/deployments/{again}"))
    deployed.advance(back)
    deployed.finish(back)


def test_somebody_says_what_becomes_of_a_target_that_failed(dora: Browser, rob: Browser, deployed: Deployed) -> None:
    application = deployed.application("guided")
    deployed.group(application, "prod", ["g-1", "g-2", "g-3"], guidedFailure=True)
    going = deployed.deploy("guided", "prod", "1.0")
    page = f"/deployments/{going}"
    for name, done in (("g-1", 2), ("g-2", 1)):
        for _ in range(done):
            deployed.step(going, name)
        deployed.step(going, name, ends=False)
    assert [deployed.step(going, name, fails=True) for name in ("g-1", "g-2")] == ["ValidateService", "Install"]
    html = dora.html(page)
    assert "Somebody has to say what becomes of g-1, g-2" in words(html)
    assert [html.count(f'value="{word}"') for word in ("retry", "ignore", "fail")] == [2, 1, 2], "Install is needed"
    assert "answer" not in acts(rob.html(page))
    first, second = (f"{page}/targets/{deployed.target_id(going, name)}/answer" for name in ("g-1", "g-2"))
    rob.send(first, 403, answer="retry")
    assert "retry or ignore or fail" in dora.send(first, 400, answer="perhaps")
    assert "cannot be ignored" in dora.send(second, 409, answer="ignore")
    dora.send(first, answer="ignore")
    dora.send(second, answer="fail")
    assert "nobody has to say anything" in dora.send(second, 409, answer="fail").lower()
    deployed.finish(going)
    text = dora.text(page)
    assert "1 failed 2 succeeded" in text
    # One whose stop script hangs:
    stuck = deployed.deploy("guided", "prod", "1.1")
    deployed.step(stuck, "g-1", ends=False)
    page = f"/deployments/{stuck}"
    assert "Skip ApplicationStop on g-1" in dora.text(page)
    assert "Skip ApplicationStop on g-2" not in dora.text(page), "it has not begun there"
    skip = f"{page}/targets/{deployed.target_id(stuck, 'g-1')}/skip"
    rob.send(skip, 403, event="ApplicationStop")
    assert "cannot be skipped" in dora.send(skip, 400, event="Install")
    dora.send(skip, event="ApplicationStop")
    assert "skipped by dora" in dora.text(page)
    deployed.finish(stuck)


def test_the_waits_of_blue_green_are_ended_by_hand(dora: Browser, deployed: Deployed) -> None:
    application = deployed.application("sides")
    plans = [{"name": "old", "agent": "o", "fleet": "Blue"}, {"name": "new", "agent": "n", "fleet": "Green"}]
    deployed.group(
        application, "live", plans, dummyEvents=["Install", "AllowTraffic", "BlockTraffic"],
        deploymentStyle={"deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL"},
        loadBalancerInfo={"targetGroupInfoList": [{"name": "edge/shop"}]},
        blueGreenDeploymentConfiguration={
            "deploymentReadyOption": {"actionOnTimeout": "STOP_DEPLOYMENT", "waitTimeInMinutes": 60},
            "terminateBlueInstancesOnDeploymentSuccess": {"action": "TERMINATE", "terminationWaitTimeInMinutes": 30},
        },
    )  # fmt: skip
    going = deployed.deploy("sides", "live", "1.0", config=AT_ONCE)
    page = f"/deployments/{going}"
    deployed.run(going, "new")
    text = dora.text(page)
    assert "The new targets are ready, and have no traffic yet" in text
    assert "Make ready Wait Reroute Drain Bake Let go" in text
    assert "does not wait for that" in dora.send(f"{page}/continue", 409, wait="TERMINATION_WAIT")
    dora.send(f"{page}/continue", wait="READY_WAIT")
    deployed.run(going, "new", "old")
    assert "what was there before is kept; that ends" in dora.text(page)
    dora.send(f"{page}/continue", wait="TERMINATION_WAIT")
    deployed.run(going, "old", "new")
    assert "Succeeded" in dora.text(page)
    assert "retry" not in acts(dora.html(page)), "a blue/green deployment is made anew as a whole"
    # The first one of all has no earlier revision, and its sides can change again all the same.
    assert "rollback" in acts(dora.html(page))
    back = dora.send(f"{page}/rollback").rpartition("/")[2]
    deployed.advance(back)
    deployed.run(back, "old", "new")
    assert deployed.status(back) == "Succeeded"
    assert "rollback" not in acts(dora.html(page))
    there = "what the originals have"
    assert there in dora.text("/applications/sides")
    assert f"{there} to sides / live" in dora.text(f"/deployments/{back}")
    with deployed.site.services.db.write() as session:
        session.get_one(DeploymentApplication, application).deleted_at = deployed.site.clock()
    html = dora.html(page)
    assert ('href="/applications/sides' in html, ">sides<" in html) == (False, True)
    assert dora.send("/deployments/d-NONE00000/pause", 404)


def test_a_service_says_how_much_of_the_traffic_it_has(ada: Browser, site: Site, deployed: Deployed) -> None:
    assert isinstance(deployed.parts.platforms, dict)
    deployed.parts.platforms["ECS"] = DummyPlatform("ECS")
    application = deployed.application("sharing", platform="ECS")
    pools = {"targetGroupInfoList": [{"name": "edge/shop"}]}
    events = ["Install", "AllowTraffic"]
    deployed.group(application, "live", [{"name": "svc", "agent": "s"}], dummyEvents=events, loadBalancerInfo=pools)
    going = deployed.deploy("sharing", "live", "1.0", config="CodeDeployDefault.ECSLinear10PercentEvery1Minutes")
    assert deployed.step(going, "svc") == "Install"
    assert "0 % of the traffic of 10 → 20 →" in ada.text(f"/deployments/{going}/live")
    assert deployed.step(going, "svc", ends=False) == "AllowTraffic"
    with site.services.db.write() as session:
        # As the container platform leaves it after its third step.
        target = session.scalars(select(DeploymentTarget).where(DeploymentTarget.deployment_id == going)).one()
        target.details = {"progress": {"step": 3}}
    assert "30 % of the traffic of 10 → 20 →" in ada.text(f"/deployments/{going}/live")
    assert deployed.finish(going) == "Succeeded"


# --- making one ------------------------------------------------------------------------------------------------------


def test_a_deployment_is_looked_at_and_made_by_the_form(
    dora: Browser, rob: Browser, site: Site, deployed: Deployed
) -> None:
    application = deployed.application("made")
    deployed.group(application, "prod", ["m-1", "m-2", "m-3", "m-4"])
    form_path = "/applications/made/deploy"
    rob.html(form_path, 403)
    rob.send(form_path, 403, do="create")
    html = dora.html(f"{form_path}?group=prod&repository=dev&package=acme-billing&version=1.0")
    assert 'value="1.0"' in html
    assert re.search(r'value="package" checked', html)
    form = {"group": "prod", "kind": "package", "repository": "dev", "format": "pypi", "package": "Acme_Billing",
            "version": "1.0", "deploymentConfigName": HALF, "request_token": "once"}  # fmt: skip
    before = count(site)
    text = dora.send(form_path, 200, do="preview", **form)
    assert "acme-billing 1.0 of default/dev to prod: 4 of 4 targets would change" in text
    assert "2 waves" in text
    assert "m-1 nothing" in text
    assert count(site) == before, "a dry run makes nothing"
    made = dora.send(form_path, do="create", description="By hand", guidedFailure="1", **form).rpartition("/")[2]
    assert dora.send(form_path, do="create", **form).rpartition("/")[2] == made, "sent twice it is made once"
    text = dora.text(f"/deployments/{made}")
    for told in ("1.0 to made / prod", "By hand", "the deployment pauses, and somebody says", HALF, "begun", "by dora"):
        assert told in text, told
    deployed.finish(made)
    text = dora.send(form_path, 200, do="preview", **{**form, "request_token": "two", "version": "1.1"})
    assert re.search(r"m-1 1\.0 → 1\.1", text)
    # Asked for by a deployment that is not the newest of its bytes, or of another group: those bytes are chosen.
    later = dora.send(form_path, do="create", **{**form, "request_token": "three"}).rpartition("/")[2]
    deployed.finish(later)
    for asked in (made, later):
        html = dora.html(f"{form_path}?kind=previous&previous={asked}")
        assert re.findall(r'<option value="(d-[A-Z0-9]+)" selected>', html) == [later], html
    dora.html(f"{form_path}?kind=previous&previous=d-NOTHERE00", 404)
    # What was deployed before, by its digest:
    preview = {"group": "prod", "kind": "previous", "previous": made, "updateOutdatedInstancesOnly": "1"}
    text = dora.send(form_path, 200, do="preview", **preview)
    assert "0 of 4 targets would change, 4 would be skipped" in text
    assert "Deployment 'd-NOTHERE00' was not found" in dora.send(
        form_path, 404, **{**preview, "previous": "d-NOTHERE00"}
    )


def count(site: Site) -> int:
    with site.services.db.read() as session:
        return len(session.scalars(select(Deployment.id)).all())


@pytest.mark.parametrize(
    ("form", "status", "told"),
    [
        ({"group": "nowhere", "kind": "previous"}, 404, "Deployment group 'nowhere' was not found"),
        ({"group": "prod", "kind": "odd"}, 400, "What is deployed is one of previous, package, artifact"),
        ({"group": "prod", "kind": "package", "format": "pypi"}, 400, "name"),
        ({"group": "prod", "kind": "package", "repository": "dev", "format": "pypi", "package": "acme-billing",
          "version": "9"}, 404, "was not found"),
        ({"group": "prod", "kind": "package", "repository": "dev", "format": "pypi", "package": "acme-billing",
          "version": "1.0", "asset": "nothing.tgz"}, 409, "has no file 'nothing.tgz'"),
        ({"group": "prod", "kind": "artifact", "build": "none"}, 404, "Build 'none' was not found"),
        ({"group": "prod", "kind": "previous", "deploymentConfigName": "odd"}, 404, "'odd' was not found"),
        ({"group": "prod", "kind": "previous", "description": "x" * 300}, 400, "Description has 300 characters"),
        ({"group": "prod", "kind": "previous", "fileExistsBehavior": "BURN"}, 400, "FileExistsBehavior is DISALLOW or"),
    ],
)  # fmt: skip
def test_the_form_says_what_is_wrong_and_keeps_what_was_said(
    dora: Browser, site: Site, shop: int, form: dict[str, str], status: int, told: str
) -> None:
    before = count(site)
    text = dora.send("/applications/shop/deploy", status, do="create", **form)
    assert told in text
    assert "What, where to and how" in text
    assert "line 1" not in text
    assert count(site) == before


def test_who_may_not_see_a_domain_sees_nothing_of_its_applications(
    stranger: Browser, deployed: Deployed, shop: int
) -> None:
    assert "shop" not in stranger.text("/deployments")
    assert "shop" not in stranger.text("/environments")
    going = deployed.deploy("shop", "staging", "1.0")
    target = deployed.target_id(going, "stage-1")
    for path in ("/applications/shop", "/applications/shop/groups/prod", "/applications/shop/deploy",
                 f"/deployments/{going}", f"/deployments/{going}/live", f"/deployments/{going}/targets/{target}"):  # fmt: skip
        stranger.html(path, 404)
    for path in (
        f"{going}/stop",
        f"{going}/pause",
        f"{going}/targets/{target}/skip",
        f"{going}/targets/{target}/answer",
    ):
        stranger.send(f"/deployments/{path}", 404)
    deployed.finish(going)


# --- words -----------------------------------------------------------------------------------------------------------


def test_waves_are_those_that_the_planner_lets_go() -> None:
    fleet = [TargetView(f"t{number}", zone="ab"[number // 3]) for number in range(6)]
    assert [wave.names for wave in waves(fleet, Rules(Minimum("FLEET_PERCENT", 50)))[0]] == [
        ("t0", "t1", "t2"),
        ("t3", "t4", "t5"),
    ]
    by_zone, later = waves(fleet, Rules(zonal=Zonal(first_seconds=60)))
    assert [(len(wave.names), wave.watched_seconds) for wave in by_zone] == [(3, 0), (3, 60)]
    one_by_one, later = waves([TargetView(f"t{number}") for number in range(100)], Rules(is_one_at_a_time=True))
    assert (len(one_by_one), later) == (30, 70)
    assert waves(fleet, Rules(Minimum("HOST_COUNT", 7))) == ([], 0), "one that cannot begin has none"


def test_configurations_in_words() -> None:
    linear = {"computePlatform": "ECS", "trafficRoutingConfig": {
        "type": "TimeBasedLinear", "timeBasedLinear": {"linearPercentage": 10, "linearInterval": 1}}}  # fmt: skip
    assert pace("x", linear) == "10 % of the traffic more every 1 minute (x)"
    hosts = {"minimumHealthyHosts": {"type": "HOST_COUNT", "value": 1}, "zonalConfig": {"monitorDurationInSeconds": 90}}
    assert pace("x", hosts, 4) == (
        "at least 1 target stays healthy, zone by zone with 90 seconds between them; at most 4 at a time (x)"
    )
    sides = {
        "deploymentStyle": {"deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL"},
        "loadBalancerInfo": {"targetGroupInfoList": [{"name": "edge/shop"}]},
        "targets": ["web-1"],
    }
    facts = dict(facts_of_group(sides, ONE, {"computePlatform": "Server"}, {"bakeTimeInMinutes": 1}))
    assert facts["Traffic"] == "through edge/shop"
    assert facts["Traffic changes sides"] == "at once, when the new side is ready"
    assert facts["Watched afterwards"] == "for 1 minute"


@pytest.mark.parametrize(
    ("phase", "status", "tones"),
    [
        ("", "Created", ["idle"] * 4),
        ("Deploy", "InProgress", ["busy", "idle", "idle", "idle"]),
        ("ReadyWait", "Ready", ["wait", "idle", "idle", "idle"]),
        ("Drain", "Failed", ["good", "good", "bad", "idle"]),
        ("Terminate", "Succeeded", ["good"] * 4),
    ],
)
def test_phases_stand_as_far_as_a_deployment_is(phase: str, status: str, tones: list[str]) -> None:
    found = steps_of(phase, status, is_blue_green=True, bakes=False, waits=False)
    assert [step.name for step in found] == ["Make ready", "Reroute", "Drain", "Let go"]
    assert [step.tone for step in found] == tones
