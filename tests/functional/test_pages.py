"""Every page, as a browser reads it: filled, empty, with names of full length and with hostile text in every field."""

import re
import resource
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from hooks.models.build import Build
from hooks.models.deployment import Deployment, DeploymentEvent
from hooks.models.pipeline import ActionExecution, Execution
from hooks.models.report import FileCoverageRow, Report, TestCase
from hooks.pages.terminal import PLAIN, Style, parse_style, render
from registry import client_login
from registry.models import Account, AccountGroup, Package, PackageVersion, Repository, RoleGrant, Token, WebSession
from registry.pages.links import outward
from registry.pages.readme import CHILD_CPU_SECONDS, LARGEST_RENDERED_BYTES, render_readme
from tests.browser import corpus, reading
from tests.browser.site import PASSWORD, Site, build, fill

PATHS = {
    "pages.home": ("/",),
    "pages.search": ("/search", "/search?q=acme", "/search?q=%25"),
    "pages.repository": (
        "/repositories/default/dev",
        "/repositories/default/staging",
        "/repositories/default/dev?q=zzz",
        "/repositories/default/dev?format=pypi&q=acme",
    ),
    "pages.package": ("/packages/default/dev/pypi/acme-billing", "/packages/default/dev/pypi/Acme_Billing?all=1"),
    "pages.version": (
        "/packages/default/dev/pypi/acme-billing/-/2.4.0",
        "/packages/default/prod/pypi/acme-billing/-/2.4.1",
    ),
    "pages.package_groups": ("/package-groups/default",),
    "pages.package_group": ("/package-groups/default/group?pattern=/*",),
    "pages.change_versions": (
        "/versions/default/dev/pypi/acme-billing?version=2.4.0&to=Archived",
        "/versions/default/dev/pypi/acme-billing?version=2.4.0&version=2.4.1&to=copy:staging",
    ),
    "pages.account": ("/account",),
    "pages.tokens": ("/account/tokens", "/account/tokens?preset=publish-one", "/account/tokens?user=mel"),
    "pages.password": ("/account/password",),
    "pages.audit": ("/audit", "/audit?before=3", "/audit?actor=ada&since=2026-01-01", "/audit?object=default/dev"),
    "pages.export_audit": (),  # a file
    "pages.administration": ("/administration",),
    "pages.users": ("/access/users", "/access/users?q=zzz", "/access/users?state=active&kind=person&factor=off"),
    "pages.user": ("/access/users/mel", "/access/users/ada"),
    "pages.groups": ("/access/groups", "/access/groups?q=zzz"),
    "pages.group": ("/access/groups/ops",),
    "pages.new_repository": ("/domains/default/new-repository",),
    "pages.repository_settings": ("/repositories/default/dev/settings",),
    "pages.quotas": ("/quotas",),
    "pages.domain_quotas": ("/quotas/default", "/quotas/default?q=dev"),
    "pages.access": ("/access", "/access?q=zzz"),
    "pages.domain_policy": ("/access/policy/default", "/access/policy/default?who=ada&what=read"),
    "pages.repository_policy": ("/access/policy/default/dev", "/access/policy/default/dev?who=nobody&what=fly"),
    "pages.second_factor": ("/account/second-factor",),
    "pages.prove": (),  # asks only whose proof is old; this and the next three are seen in test_sign_in_pages
    "pages.sign_in_code": (),
    "pages.to_provider": (),
    "pages.from_provider": (),
    "pages.design": ("/design",),
    "pages.setup": ("/setup",),
    "pages.client_login": ("/sign-in/client?code={waiting}",),
    "pages.sign_in": (),  # sends somebody signed in away; seen in test_pages_entrance
    "pages.asset": (),  # no page
    "hook_pages.keys": ("/keys",),
    "hook_pages.runners": ("/runners",),
    "hook_pages.destinations": ("/destinations", "/destinations?name=partners"),
    "hook_pages.agents": ("/agents",),
    "hook_pages.agent": ("/agents/web-1", "/agents/web-3"),
    "hook_pages.board": ("/board", "/board?q=zzz", "/board?pipeline=release&before=2"),
    "hook_pages.figures": ("/figures", "/figures?by=group&days=7", "/figures?by=pipeline&days=90"),
    "hook_pages.life": (
        "/packages/default/dev/pypi/acme-billing/-/2.4.0/life",
        "/packages/default/prod/pypi/acme-billing/-/2.4.1/life",
    ),
    "hook_pages.group_provenance": ("/applications/shop/groups/web/provenance",),
    "hook_pages.deployments": ("/deployments", "/deployments?after=zzz"),
    "hook_pages.environments": ("/environments",),
    "hook_pages.environments_live": (),  # a part of a page
    "hook_pages.application": ("/applications/shop",),
    "hook_pages.deployment_group": ("/applications/shop/groups/web", "/applications/shop/groups/production"),
    "hook_pages.new_deployment": ("/applications/shop/deploy", "/applications/shop/deploy?group=web&kind=package"),
    "hook_pages.deployment": (
        "/deployments/{deployed}",
        "/deployments/{deploying}",
        "/deployments/{deploying}?show=Pending",
    ),
    "hook_pages.deployment_live": (),  # a part of a page
    "hook_pages.deployment_target": ("/deployments/{deploying}/targets/{target}",),
    "hook_pages.pipelines": ("/pipelines",),
    "hook_pages.pipeline": ("/pipelines/release", "/pipelines/release?before=1"),
    "hook_pages.execution": tuple(f"/executions/{number}" for number in (1, 2, 3, 4)),
    "hook_pages.execution_live": (),  # a part of a page
    "hook_pages.approvals": ("/approvals",),
    "hook_pages.build": (
        "/builds/{failed}",
        "/builds/{running}",
        "/builds/{failed}?from=100&line=3&style=red..bold",
        "/builds/{failed}?q=e",
        "/builds/{running}?q=nowhere&case=1",
    ),
    "hook_pages.build_batch": ("/build-batches/{batch}",),
    "hook_pages.build_batch_live": (),  # a part of a page
    "hook_pages.build_projects": ("/build-projects",),
    "hook_pages.build_project": ("/build-projects/tests",),
    "hook_pages.secrets": ("/secrets", "/secrets?path=shop", "/secrets?after=zzz"),
    "hook_pages.secret": ("/secrets/1", "/secrets/2"),
    "hook_pages.build_live": (),
    "hook_pages.artifact": (
        "/builds/{failed}/artifacts/primary",
        "/builds/{failed}/artifacts/primary?from=500",
        "/builds/{failed}/artifacts/coverage",
    ),
    "hook_pages.artifact_download": (),  # no page
    "hook_pages.build_log": (),
    "hook_pages.build_log_stream": (),
    "hook_pages.raw_log": (),
    "hook_pages.report_groups": ("/report-groups", "/report-groups?after=zzz"),
    "hook_pages.report_group": (
        "/report-groups/tests-unit",
        "/report-groups/tests-unit?field=duration",
        "/report-groups/tests-cover?field=nonsense",
    ),
    "hook_pages.report": (
        "/reports/{unit}",
        "/reports/{unit}?show=failed",
        "/reports/{unit}?after=9",
        "/reports/{cover}",
    ),
    "hook_pages.test_case": ("/report-groups/tests-unit/test-cases/{case}",),
    "hook_pages.webhooks": ("/webhooks",),
    "hook_pages.webhook": ("/webhooks/1", "/webhooks/1?state=Failed", "/webhooks/1?after=msg_1", "/webhooks/2"),
    "hook_pages.delivery": tuple(f"/webhooks/1/deliveries/msg_{number}" for number in range(4)),
    "hook_pages.notifications": ("/account/notifications",),
    "hook_pages.show_confirm": ("/account/notifications/confirm?code=x",),
}


def sign_in(site: Site, name: str = "ada") -> FlaskClient:
    client = site.app.test_client()
    answer = client.post("/sign-in", data={"user": name, "password": PASSWORD})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    return client


def get(client: FlaskClient, path: str, status: int = 200) -> str:
    answer = client.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == status, (path, answer.status, answer.headers.get("Location"))
    return answer.get_data(as_text=True)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, dict[str, int]]]:
    site = build(tmp_path_factory.mktemp("filled"))
    yield site, fill(site)
    site.world.close()


@pytest.fixture(scope="module")
def ada(filled: tuple[Site, dict[str, int]]) -> FlaskClient:
    return sign_in(filled[0])


def all_paths(site: Site, found: dict[str, int]) -> list[str]:
    named = {key: site.build_of(found[key]) for key in ("failed", "running")}
    with site.services.db.write() as session:
        client, now = "npm/11.0.0 node/v20", site.services.clock()
        asked = client_login.begin(session, site.services.accounts, client=client, address="127.0.0.1", now=now)
        named |= {group: site.report_of(found["failed"], f"tests-{group}") for group in ("unit", "cover")}
    named["case"], named["batch"] = site.failed_case(), site.batch()
    named["deployed"], named["deploying"] = site.deployments()
    named["target"] = str(site.target_of(named["deploying"]))
    return [path.format(**named, waiting=asked.code) for paths in PATHS.values() for path in paths]


def test_every_page_is_in_the_catalogue(filled):
    rules = filled[0].app.url_map.iter_rules()
    assert {rule.endpoint for rule in rules if "GET" in (rule.methods or ())} == set(PATHS)


def test_every_page_is_whole_and_can_do_nothing_but_what_we_wrote(filled, ada):
    for path in all_paths(*filled):
        tree = reading.parse(get(ada, path))
        assert reading.dangers(tree) == [], path
        tags = [tag for tag, _ in reading.elements(tree)]
        titles = tree.findall("head/title")  # a chart has titles of its own
        assert (tags.count("h1"), tags.count("main"), len(titles)) == (1 if path != "/design" else 2, 1, 1), path
        ids = [attributes["id"] for _, attributes in reading.elements(tree) if "id" in attributes]
        assert len(ids) == len(set(ids)), path


def test_every_form_that_changes_something_carries_the_token(filled, ada):
    seen = 0
    for path in all_paths(*filled):
        for form in reading.parse(get(ada, path)).iter("form"):
            if form.attrib.get("method") == "post":
                seen += 1
                assert [
                    field.attrib["value"] for field in form.iter("input") if field.attrib.get("name") == "csrf_token"
                ]
    assert seen > 50


def test_dangers_are_found_where_there_are_some():
    for text in (
        *corpus.HTML[:8],
        f'<p title="{corpus.PAYLOAD}">',
        '<a href="javascript:x">x</a>',
        "<p onclick=x>x</p>",
    ):
        assert reading.dangers(reading.fragment(text)), text


def test_empty_pages_say_what_would_stand_there(tmp_path):
    site = build(tmp_path)
    site.person("ada", ["admin"])
    client = sign_in(site)
    for path, words in {
        "/": "0 packages",
        "/repositories/default/prod": "Nothing here yet",
        "/search": "Type part of a package",
        "/search?q=x": "No package has that in its name",
        "/pipelines": "No pipelines yet",
        "/deployments": "entrepot deploy app create shop",
        "/environments": "Nothing is deployed anywhere",
        "/approvals": "Nothing waits for you",
        "/report-groups": "No reports yet",
        "/account/tokens": "No tokens yet",
        "/webhooks": "No webhooks yet",
        "/access": "No roles are granted",
        "/access/groups": "No groups yet",
        "/access/users?q=zzz": "Nobody matches",
        "/access/users/ada": "No role yet",
        "/account/notifications": "No subscriptions yet",
    }.items():
        text = get(client, path)
        assert words in text, path
        assert reading.dangers(reading.parse(text)) == []
    site.person("newcomer", [])
    assert "No repository is yours to see" in get(sign_in(site, "newcomer"), "/")
    site.world.close()


def test_error_pages_say_what_can_be_done(filled):
    rob = sign_in(filled[0], "rob")
    denied = get(rob, "/repositories/default/prod", 403)
    assert "<p>rob may not read default/prod.</p>" in denied, "a name is spelt as it is"
    assert "An administrator can give you the right." in denied
    missing = get(rob, "/packages/default/dev/pypi/nothing", 404)
    assert "<p>Package &#39;nothing&#39; was not found.</p>" in missing
    assert "not be yours to see" in missing


def test_who_may_make_no_repository_is_not_told_how(tmp_path):
    site = build(tmp_path)
    site.person("newcomer", [])
    assert "entrepot repo create" not in get(sign_in(site, "newcomer"), "/")
    site.world.close()


def test_the_door_shows_strangers_only_the_door(filled):
    stranger = filled[0].app.test_client()
    for path in ("/sign-in", "/setup"):
        assert 'aria-label="Main"' not in get(stranger, path), path


def test_names_of_full_length(tmp_path):
    site = build(tmp_path)
    site.person("a" * 63, ["admin"])
    name, version = "a" * 100, "1." + "0" * 253
    site.package("dev", name, version, summary="s" * 3000, by="b" * 100, filename="f" * 255, size_bytes=10**15)
    client = sign_in(site, "a" * 63)
    for path in ("/", "/repositories/default/dev", f"/packages/default/dev/pypi/{name}", f"/search?q={'a' * 100}"):
        assert reading.dangers(reading.parse(get(client, path))) == []
    site.world.close()


def poison(site: Site) -> None:
    """Put the payload into every text column that somebody else may have written, past all checks."""
    bad = corpus.PAYLOAD
    # What administrators look at: names are checked when they are given, and everything else is not.
    with site.services.db.write() as session:
        session.execute(sa.update(AccountGroup).values(description=bad))
        session.execute(sa.update(RoleGrant).values(created_by=bad[:100]))
        session.execute(sa.update(Token).values(name=bad[:100], created_by=bad[:64]))
        session.execute(sa.update(WebSession).values(user_agent=bad, address=bad[:100], by=bad[:64]))
    facts = {"description": bad, "author": bad, "license": bad, "requires_dist": [bad], "requires_python": bad,
             "home_page": "javascript:alert(1)//" + bad, "project_urls": {bad: "javascript:alert(1)", "x": "https://x.example/" + bad}}  # fmt: skip
    with site.services.db.write() as session:
        for table, values in (
            (Package, {"display_name": bad}),
            (PackageVersion, {"display_version": bad, "summary": bad, "published_by": bad, "yanked_reason": bad, "metadata_": facts, "description": None}),
            (Repository, {"description": bad}),
            (Execution, {"triggered_by": bad, "publishers": [bad], "stop_reason": bad, "stopped_by": bad, "variables": {bad: bad},
                         "assets": {bad: bad}, "trigger_kind": bad[:16], "digest": bad[:64], "version": bad}),
            (ActionExecution, {"summary": bad, "comment": bad, "decided_by": bad, "token": bad,
                               "resolved_configuration": {"ExternalEntityLink": "javascript:alert(1)", "CustomData": bad}}),
            (Report, {"message": bad}),
            (FileCoverageRow, {"path": bad}),
            (TestCase, {"prefix": bad, "suite": bad, "name": bad, "raw_path": bad}),
            (Deployment, {"initiator": bad, "description": bad, "error_code": bad[:64], "error_message": bad, "rollback_message": bad}),
            (DeploymentEvent, {"message": bad, "script": bad}),
            (Build, {"message": bad, "initiator": bad, "exported_variables": {bad: bad}}),
        ):  # fmt: skip
            session.execute(sa.update(table).values(**values))
        for row in session.scalars(sa.select(Build)):
            row.phases = [{**phase, "contexts": [{"statusCode": bad, "message": bad}]} for phase in row.phases]
        session.execute(sa.text("UPDATE asset SET published_by = :bad, filename = :bad || id"), {"bad": bad})
        session.execute(sa.text("UPDATE pipeline_definition SET document = :bad, created_by = :bad"), {"bad": bad})


def test_hostile_text_in_every_field_stays_text(tmp_path):
    site = build(tmp_path)
    found = fill(site)
    for key in found:
        site.write_log(site.build_of(found[key]), (corpus.PAYLOAD + "\n" + "\n".join(corpus.LOGS) + "\n").encode())
    poison(site)
    client = sign_in(site)
    form = {"csrf_token": token_of(client), "name": corpus.PAYLOAD, "actions": "read", "life_days": "30"}
    assert client.post("/account/tokens", data=form).status_code == 200
    shown = 0
    for path in all_paths(site, found):
        text = get(client, path)
        shown += "&lt;svg onload=alert(1)&gt;" in text
        assert reading.dangers(reading.parse(text)) == [], path
        assert "49&amp;lt;" not in text
    assert shown > 15, "the payload is on hardly any page: the test looks past it"
    for path in ("/search?q=", "/repositories/default/dev?q=", "/repositories/default/dev?format=", "/sign-in?next="):
        assert (
            reading.dangers(
                reading.parse(site.app.test_client().get(path + "%22%3E%3Csvg onload=x%3E", follow_redirects=True).text)
            )
            == []
        )
    site.world.close()


def token_of(client: FlaskClient) -> str:
    return re.search(r'name="csrf_token" value="([^"]+)"', client.get("/account").text)[1]


def test_templates_never_switch_escaping_off():
    templates = [path for folder in ("registry", "hooks") for path in Path(folder, "pages/templates").rglob("*.html")]
    assert len(templates) > 20
    for path in templates:
        text = path.read_text()
        assert not re.search(
            r"\|\s*safe|autoescape|<style|<script(?! type=\"module\" src=)|\sstyle=|\son[a-z]+=", text
        ), path


@pytest.mark.parametrize("kind", ["text/markdown", "text/x-rst", "text/plain", "text/html", "", "nonsense"])
def test_readmes_can_neither_act_nor_fetch(kind):
    texts = corpus.RST if kind in {"text/x-rst", ""} else (*corpus.HTML, *corpus.MARKDOWN)
    for text in texts:
        tree = reading.fragment(str(render_readme(text, kind)))
        assert reading.dangers(tree) == [], text
        for tag, attributes in reading.elements(tree):
            assert "canary" not in "".join(attributes.values()), text
            assert attributes.get("id", "user-content-").startswith("user-content-"), text
            assert not {"class", "name", "style"} & set(attributes) or attributes.get("class") == "plain", (tag, text)
            if tag == "a" and "href" in attributes:
                assert attributes["rel"] == "nofollow noopener ugc"


def test_readmes_are_rendered():
    rendered = render_readme(
        "# Hi\n\n[a](https://x.example) [b](#hi)\n\n| x |\n|---|\n| y |", "text/markdown; charset=UTF-8; variant=GFM"
    )
    assert '<h3 id="user-content-hi">Hi</h3>' in rendered
    assert '<a href="https://x.example" rel="nofollow noopener ugc">a</a>' in rendered
    assert 'href="#user-content-hi"' in rendered
    assert "<td>y</td>" in rendered
    assert "<em>x</em>" in render_readme("*x*", "text/x-rst")
    assert render_readme("<b>x</b>", "text/plain") == '<pre class="plain">&lt;b&gt;x&lt;/b&gt;</pre>'


@pytest.mark.parametrize(
    ("kind", "text", "is_rendered"),
    [
        ("text/markdown", "a *b* c\n" * 5_000, True),
        ("text/markdown", "x" * (LARGEST_RENDERED_BYTES + 1), False),
        ("text/markdown", "> " * 60_000, False),
        ("text/markdown", "<div>" * 50_000, None),
        ("text/markdown", "".join(f"<b title={number}>" for number in range(8_000)) + "<p>" * 40_000, None),
        ("text/x-rst", "x *y*\n" * 5_000, True),
        ("text/x-rst", "A\n=\n\n" * 50_000, False),
        ("text/x-rst", "".join(" " * depth + "- x\n\n" for depth in range(350)), False),
    ],
)
def test_large_and_deep_readmes_do_not_take_the_server_along(kind, text, is_rendered):
    before = resource.getrusage(resource.RUSAGE_SELF)
    shown = render_readme(text, kind)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < CHILD_CPU_SECONDS
    if is_rendered is not None:  # None: a matter of the machine's speed, and either is right
        assert shown.startswith('<pre class="plain">') != is_rendered
    assert reading.dangers(reading.fragment(shown[:20_000])) == []


def test_links_lead_to_the_web_or_nowhere():
    assert outward("https://x.example/y?z=1") == "https://x.example/y?z=1"
    for odd in (
        "javascript:alert(1)",
        "ftp://x.example",
        "https://",
        "//x.example",
        "https://x y",
        "http://[::1",
        "\nhttps://x.example",
        7,
        None,
    ):
        assert outward(odd) is None, odd


def test_logs_keep_colours_and_show_what_hides():
    first = render("\x1b[1;31mred\x1b[0m \x1b[38;5;2mgreen\nstill\x1b[m <b>\r\n", first_line=5)
    assert (first.next_line, first.style) == (7, PLAIN)
    assert '<div class="log-line" id="L5"><a href="#L5">5</a>' in first.html
    assert '<span class="t-red t-bold">red</span> <span class="t-green">green</span>' in first.html
    assert '<span class="t-green">still</span> &lt;b&gt;</span></div>' in first.html
    assert render("\x1b[34mx\n").style == Style("blue")
    assert (
        render("y\n", style=Style("blue", "red", frozenset({"bold"}))).html.count('class="t-blue t-on-red t-bold"') == 1
    )
    for style in (PLAIN, Style("blue", "red", frozenset({"bold", "faint"}))):
        assert parse_style(str(style)) == style
    assert parse_style('x" onload=.<b>.bold.evil') == Style("", "", frozenset({"bold"}))
    for text in corpus.LOGS:
        shown = render(text).html
        assert reading.dangers(reading.fragment(shown)) == [], text
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2066-\u2069\ufeff]", shown), text
    assert "U+202E" in render("\u202e").html
    assert "shown" in render("shown\rhidden").html
    assert "9,990,000 more characters" in render("x" * 10_000_000).html


def test_people_see_what_is_theirs(filled):
    site, found = filled
    rob = sign_in(site, "rob")
    home = get(rob, "/")
    assert "/repositories/default/dev" in home
    assert "/repositories/default/prod" not in home
    denied, missing = (rob.get(f"/repositories/default/{name}") for name in ("prod", "nowhere"))
    assert denied.status_code == missing.status_code == 403
    assert denied.text.replace("prod", "nowhere") == missing.text
    version = get(rob, "/packages/default/dev/pypi/acme-billing/-/2.4.1")
    assert "/packages/default/prod/" not in version
    assert "/packages/default/prod/" in get(sign_in(site), "/packages/default/dev/pypi/acme-billing/-/2.4.1")
    waiting = get(rob, f"/executions/{found['waiting']}")
    assert "You need the right to approve on default/prod" in waiting
    assert 'name="verdict"' not in waiting
    assert "Stop the execution" not in get(rob, f"/executions/{found['running']}")
    site.person("stranger", ["read"], ["other/*"])
    stranger = sign_in(site, "stranger")
    for path in (f"/executions/{found['done']}", f"/builds/{site.build_of(found['done'])}", "/executions/999"):
        get(stranger, path, 404)
    assert "acme" not in get(stranger, "/pipelines").replace("acme-*", "")


def test_anonymous_reading_where_it_is_allowed(filled):
    site, _ = filled
    stranger = site.app.test_client()
    for path in ("/", "/search?q=acme", "/repositories/default/prod", "/repositories/default/nowhere"):
        assert stranger.get(path).headers["Location"].startswith("/sign-in?next=")
    with site.services.db.write() as session:
        session.get_one(Repository, site.repositories["prod"]).anonymous_read = True
    try:
        home = get(stranger, "/")
        assert "/repositories/default/prod" in home
        assert "/repositories/default/dev" not in home
        assert "acme-billing" in get(stranger, "/repositories/default/prod")
        page = get(stranger, "/packages/default/prod/pypi/acme-billing")
        assert reading.dangers(reading.parse(page)) == []
        assert "/packages/default/dev/" not in page
        assert stranger.get("/repositories/default/dev").status_code == 303
    finally:
        with site.services.db.write() as session:
            session.get_one(Repository, site.repositories["prod"]).anonymous_read = False


def test_paging_goes_through_all_packages_once(tmp_path):
    site = build(tmp_path)
    site.person("ada", ["admin"])
    for number in range(120):
        site.package("dev", f"p{number:03}", "1.0")
    client, path, seen, pages = sign_in(site), "/repositories/default/dev", [], 0
    while path:
        text = get(client, path)
        seen += re.findall(r'href="/packages/default/dev/pypi/(p\d+)"', text)
        onward = re.search(r'href="([^"]+after=[^"]+)">Next page', text)
        path = onward[1].replace("&amp;", "&") if onward else ""
        pages += 1
    assert (seen, pages) == ([f"p{number:03}" for number in range(120)], 3)
    site.world.close()


def test_assets_are_kept_for_good_under_their_own_address_only(ada):
    page = get(ada, "/")
    for address in set(re.findall(r'"(/static/[^"]+)"', page)):
        answer = ada.get(address)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
        assert ada.get(address.partition("?")[0]).headers["Cache-Control"] == "public, no-cache"
        assert ada.get(address, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    for address in ("/static/../readme.py", "/static/%2e%2e/readme.py", "/static/nothing.css", "/static/icons.png"):
        assert ada.get(address).status_code == 404


def test_tokens_of_all_states_are_listed(filled):
    site, _ = filled
    client = sign_in(site, "mel")
    with site.services.db.write() as session:
        mel = session.scalar(sa.select(Account.id).where(Account.name == "mel"))
        for name, end_hours, revoked in (("laptop", 5, None), ("old", -5, None), ("lost", 5, site.clock())):
            session.add(
                Token(
                    account_id=mel, kind="personal", name=name, digest=name, last_four="wxyz", actions=["read"], repositories=["default/dev"],
                    created_at=site.clock(), expires_at=site.clock() + timedelta(hours=end_hours), revoked_at=revoked,
                )
            )  # fmt: skip
    text = get(client, "/account/tokens")
    assert (text.count("Revoke for good"), "expired" in text, "revoked" in text, text.count("wxyz")) == (
        1,
        True,
        True,
        3,
    )


# --- managing a package ----------------------------------------------------------------------------------------------


def token_on(client: FlaskClient, path: str) -> str:
    match = re.search(r'name="csrf_token" value="([^"]+)"', get(client, path))
    assert match is not None
    return match[1]


@pytest.fixture
def managed(tmp_path: Path) -> Iterator[Site]:
    site = build(tmp_path)
    site.person("pam", ["read", "publish"], ["default/dev"])
    site.person("rob", ["read"], ["default/dev"])
    for version in ("1.0", "1.1"):
        site.package("dev", "acme-tool", version)
    yield site
    site.world.close()


TOOL = "/packages/default/dev/pypi/acme-tool"


def test_a_version_is_yanked_put_back_and_deleted_on_its_page(managed: Site):
    pam = sign_in(managed, "pam")
    form = {"csrf_token": token_on(pam, TOOL)}
    done = pam.post(f"{TOOL}/-/1.1/yank", data={**form, "reason": "loses <b>data</b>"})
    assert (done.status_code, done.headers["Location"]) == (303, f"{TOOL}/-/1.1")
    text = get(pam, f"{TOOL}/-/1.1")
    assert "Reason: loses &lt;b&gt;data&lt;/b&gt;" in text
    assert "The version is yanked" in text
    assert pam.post(f"{TOOL}/-/1.1/unyank", data=form).status_code == 303
    assert "was yanked" not in get(pam, f"{TOOL}/-/1.1")
    assert pam.post(f"{TOOL}/-/1.1/delete", data=form).headers["Location"] == TOOL
    get(pam, f"{TOOL}/-/1.1", 404)
    assert pam.post(f"{TOOL}/-/1.0/delete", data=form).headers["Location"] == "/repositories/default/dev"
    get(pam, TOOL, 404)


def test_a_package_is_closed_on_its_page(managed: Site):
    pam = sign_in(managed, "pam")
    form = {"csrf_token": token_on(pam, TOOL), "status": "quarantined", "reason": "reported"}
    assert pam.post(f"{TOOL}/status", data=form).headers["Location"] == TOOL
    assert "is quarantined: tools are offered none of its files. Reason: reported" in get(pam, TOOL)
    assert pam.post(f"{TOOL}/status", data={**form, "status": "odd"}).status_code == 400
    assert pam.post(f"{TOOL}/status", data={**form, "reason": "x" * 501}).status_code == 400


def test_who_may_not_publish_sees_no_forms_and_changes_nothing(managed: Site):
    rob = sign_in(managed, "rob")
    assert "Manage" not in get(rob, TOOL)
    form = {"csrf_token": token_on(rob, TOOL), "status": "archived"}
    for path in ("/-/1.1/yank", "/-/1.1/unyank", "/-/1.1/delete", "/status"):
        assert rob.post(TOOL + path, data=form).status_code == 403, path
    pam = sign_in(managed, "pam")
    assert pam.post(f"{TOOL}/-/1.1/delete").status_code == 403  # without the form's token
    assert "archived" not in get(rob, TOOL)
    get(rob, f"{TOOL}/-/1.1")
