"""Pages of reports, as a browser reads them: what comes first, what is left to further pages, who sees what."""

import re
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from hooks.builds.reports.model import FileCoverage, ReportStatus
from hooks.pages.chart import draw
from tests.browser.site import PASSWORD, PIPELINE, Site, build
from tests.report_bench import case, result


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = build(tmp_path_factory.mktemp("reports"))
    made.person("ada", ["admin"])
    made.person("rob", ["read"], ["default/prod"])
    made.package("dev", "acme-tax", "0.9.2")
    made.world.apply(PIPELINE)
    yield made
    made.world.close()


@pytest.fixture(scope="module")
def client(site: Site) -> FlaskClient:
    return sign_in(site, "ada")


def sign_in(site: Site, name: str) -> FlaskClient:
    client = site.app.test_client()
    assert client.post("/sign-in", data={"user": name, "password": PASSWORD}).status_code == 303
    return client


def new_build(site: Site) -> str:
    site.world.later(minutes=1)
    return site.build_of(site.start("acme-tax", "0.9.2"))


def text_of(client: FlaskClient, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, (path, answer.status)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", answer.text))


def test_a_builds_page_has_its_failures_first(site: Site, client: FlaskClient) -> None:
    build_id = new_build(site)
    assert "Reports" not in text_of(client, f"/builds/{build_id}")
    site.hand_in(build_id, result("all-fine", [case("quiet")]))
    cases = [case(f"good{n}") for n in range(20)] + [case(f"bad{n}", "FAILED", f"told {n}\nmore") for n in range(8)]
    site.hand_in(build_id, result("first", cases))
    site.hand_in(build_id, result("gone", [], "no matching report paths found", ReportStatus.FAILED))
    page = text_of(client, f"/builds/{build_id}")
    places = [
        page.index(words)
        for words in ("tests-first", "bad0", "bad4", "3 more failures", "tests-gone", "tests-all-fine")
    ]
    assert places == sorted(places)
    assert "28 test cases, 8 failed, 20 passed" in page
    assert "no matching report paths found" in page
    assert "bad5" not in page
    assert "quiet" not in page


def test_a_large_report_comes_in_pages_and_by_kind(site: Site, client: FlaskClient) -> None:
    cases = [case(f"good{n:04}") for n in range(150)] + [case("bad", "ERROR", "x"), case("odd", "SKIPPED")]
    report = site.hand_in(new_build(site), result("large", cases))
    first = text_of(client, f"/reports/{report}")
    assert first.index("bad") < first.index("good0000")
    assert "good0099" not in first
    assert "good0099" in text_of(client, f"/reports/{report}?after=100")
    failed, skipped = (text_of(client, f"/reports/{report}?show={kind}") for kind in ("failed", "skipped"))
    assert ("bad" in failed, "good0000" in failed, "odd" in skipped) == (True, False, True)
    assert client.get(f"/reports/{report}?after=-5&show=nonsense").status_code == 200


def test_a_group_over_time_and_its_flaky_cases(site: Site, client: FlaskClient) -> None:
    for how in ("SUCCEEDED", "FAILED", "SUCCEEDED"):
        site.hand_in(new_build(site), result("wobbly", [case("shaky", how), case("calm")]))
    page = client.get("/report-groups/tests-wobbly").text
    assert page.count('class="trend-dot"') == 3
    assert re.findall(r"Build \d+: (100|50) %", page) == ["100", "50", "100"]
    flaky = page.partition('id="flaky"')[2].partition("</section>")[0]
    assert ("shaky" in flaky, "calm" in flaky) == (True, False)
    assert "TOTAL" not in page or 'aria-current="page"' in page
    (path,) = set(re.findall(r'href="(/report-groups/tests-wobbly/test-cases/\w+)"', flaky))
    shown = text_of(client, path)
    assert "Flaky" in shown
    assert (shown.count("Succeeded"), shown.count("Failed")) == (2, 1)


def test_coverage_is_shown_by_file(site: Site, client: FlaskClient) -> None:
    files = [FileCoverage("src/a.py", 3, 1), FileCoverage("src/empty.py", 0, 0)]
    report = site.hand_in(new_build(site), result("cover", files))
    assert "75.0 % of 4 lines" in text_of(client, f"/reports/{report}")
    assert "src/empty.py - 0 -" in text_of(client, f"/reports/{report}")


def test_reports_are_for_those_who_may_read_the_build(site: Site) -> None:
    report = site.hand_in(new_build(site), result("closed", [case("a")]))
    rob = sign_in(site, "rob")
    for path in (f"/reports/{report}", "/report-groups/tests-closed", "/report-groups/tests-closed/test-cases/x"):
        assert rob.get(path).status_code == 404, path
    assert "tests-closed" not in rob.get("/report-groups").text


def test_charts() -> None:
    assert draw([]).dots == ()
    assert [(dot.x, dot.y) for dot in draw([(0, "")]).dots] == [(50.0, 96.0)]
    chart = draw([(50, "a"), (100, "b")], top=100)
    assert (chart.line, chart.top) == ("4.0,50.0 96.0,4.0", 100)
