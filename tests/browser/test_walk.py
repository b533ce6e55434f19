"""Every page in a real browser: silent, legible in light and dark, on a phone, with the keyboard, without script."""

import os
import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser import corpus
from tests.browser.site import PASSWORD

# What it tells of rules that are kept is longer than the pages.
AXE_OPTIONS = {"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"], "resultTypes": ["violations"]}
AXE_RUN = "options => axe.run(document, options).then(found => found.violations)"
# What a page is put together from: each kind of element with its classes, and what it is to a reader of screens.
KINDS = """() => [...new Set([...document.querySelectorAll('body, body *')].map(each => [
  each.tagName, each.getAttribute('class'), each.getAttribute('type'), each.getAttribute('role'),
  ...each.getAttributeNames().filter(name => name.startsWith('aria-')),
].join(' ')))]"""


class Scanned:
    """Which pages the checker looked at. It takes seconds for each: in ``make test`` one page of each address is enough.

    Another page of that address is looked at when it shows a kind of element that none before it had; the campaign looks
    at all.
    """

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.addresses: set[str] = set()

    def wants(self, path: str, kinds: list[str]) -> bool:
        address = re.sub(r"/(\d+|default/\w+|tests-\w+)(?=/|$)", "/*", path.partition("?")[0])
        is_new = address not in self.addresses or not self.kinds.issuperset(kinds)
        self.addresses.add(address)
        self.kinds.update(kinds)
        return is_new or os.environ.get("ENTREPOT_CAMPAIGN") == "long"


@pytest.mark.campaign
@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_every_page_is_silent_and_accessible(calm_visit, open_page, axe, scheme):
    """And made narrow it does not scroll sideways: loading all of them once more for that has the campaign."""
    page = calm_visit.sign_in(open_page(calm_visit, color_scheme=scheme))
    faults = []
    scanned = Scanned()
    for path in calm_visit.paths():
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(calm_visit.url + path)
        expect(page.locator("h1").first).to_be_visible()
        if scanned.wants(path, page.evaluate(KINDS)):
            page.evaluate(axe)
            found = page.evaluate(AXE_RUN, AXE_OPTIONS)
            faults += [f"{path}: {fault['id']} at {fault['nodes'][0]['target']}" for fault in found]
        page.set_viewport_size({"width": 320, "height": 800})
        wide = page.evaluate("document.documentElement.scrollWidth")
        faults += [f"{path}: {wide} pixels wide on 320"] if wide > 320 else []
    assert faults == []
    assert calm_visit.complaints == []


def test_a_forbidden_script_would_be_noticed(visit, open_page):
    page = visit.sign_in(open_page(visit))
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p onclick=\"x()\" style=\"color:red\">x</p>')")
    page.evaluate(
        "{const s = document.createElement('script'); s.textContent = 'document.title = 1'; document.body.append(s)}"
    )
    page.evaluate("fetch('https://canary.invalid/').catch(() => {})")
    expect(page).to_have_title(re.compile("Repositories"))
    assert len([said for said in visit.complaints if "Content Security Policy" in said]) >= 3
    visit.complaints.clear()


@pytest.mark.long
@pytest.mark.parametrize("width", [320, 768, 1100])
def test_no_page_scrolls_sideways(calm_visit, open_page, width):
    page = calm_visit.sign_in(open_page(calm_visit, viewport={"width": width, "height": 800}))
    wide = []
    for path in calm_visit.paths():
        page.goto(calm_visit.url + path)
        if page.evaluate("document.documentElement.scrollWidth") > width:
            wide.append(path)
    assert wide == []


def test_long_names_do_not_push_a_phone_page_sideways(visit, open_page):
    name = "a" * 100
    visit.site.package("dev", name, "1." + "0" * 200, summary="s" * 300, filename="f" * 200, by="b" * 90)
    page = visit.sign_in(open_page(visit, viewport={"width": 320, "height": 800}))
    for path in ("/", "/repositories/default/dev", f"/packages/default/dev/pypi/{name}", "/search?q=aaa"):
        page.goto(visit.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, path


def ground(page: Page) -> int:
    """How bright the page's ground is, 0 to 255."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) // 3


def test_dark_by_preference_and_by_choice(calm_visit, open_page):
    assert ground(calm_visit.sign_in(open_page(calm_visit, color_scheme="light"))) > 200
    page = calm_visit.sign_in(open_page(calm_visit, color_scheme="dark"))
    assert ground(page) < 60
    page.locator("details.menu > summary").click()
    page.get_by_role("button", name="Light").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    assert ground(page) > 200
    expect(page.get_by_role("button", name="Light")).to_have_attribute("aria-pressed", "true")
    answer = page.goto(calm_visit.url + "/pipelines")
    assert '<html lang="en" data-theme="light">' in answer.text(), "the server writes it, so that nothing flashes"
    assert ground(page) > 200


def focused(page: Page) -> str:
    return page.evaluate(
        "(document.activeElement.textContent || document.activeElement.name || '').trim().replace(/\\s+/g, ' ')"
    )


def tab_to(page: Page, text: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", f"one cannot see that {focused(page)!r} has the focus"
        if text in focused(page):
            return
    raise AssertionError(f"the keyboard does not reach {text!r}")


def test_approving_with_the_keyboard_alone(visit, open_page):
    page = open_page(visit)
    page.goto(visit.url + "/approvals")
    page.keyboard.type("mel")  # the field for the name has the focus
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(visit.url + "/approvals")
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    page.keyboard.press("Enter")
    tab_to(page, "comment")
    page.keyboard.type("looks right")
    tab_to(page, "Approve")
    page.keyboard.press("Enter")
    page.wait_for_url("**/executions/*")
    expect(page.get_by_text("Approved. The execution goes on.")).to_be_visible()
    assert visit.site.world.action(visit.found["waiting"], "Approve/ReleaseManager").comment == "looks right"


def test_shortcuts(calm_visit, open_page):
    page = calm_visit.sign_in(open_page(calm_visit))
    page.keyboard.press("/")
    page.keyboard.type("acme-t/x?g")
    expect(page.locator("#search")).to_have_value("acme-t/x?g")
    page.locator("#search").fill("acme-tax")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?q=acme-tax")
    page.keyboard.press("g")
    page.keyboard.press("p")
    page.wait_for_url("**/pipelines")
    page.keyboard.press("?")
    expect(page.locator("#shortcuts")).to_be_visible()
    page.get_by_label("Use keyboard shortcuts").uncheck()
    page.keyboard.press("Escape")
    page.reload()
    page.keyboard.press("/")
    expect(page.locator("#search")).not_to_be_focused()


def test_the_menu_lies_above_the_page_on_a_phone(calm_visit, open_page):
    page = calm_visit.sign_in(open_page(calm_visit, viewport={"width": 390, "height": 800}))
    page.locator("details.menu > summary").click()
    page.get_by_role("link", name="Account").click()
    page.wait_for_url("**/account")


def test_one_gets_out_of_a_question_with_the_keyboard(calm_visit, open_page):
    page = calm_visit.sign_in(open_page(calm_visit))
    page.goto(f"{calm_visit.url}/builds/{calm_visit.site.build_of(calm_visit.found['running'])}")
    stop = page.locator("#stop > summary")
    stop.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Stop the build")).to_be_visible()
    expect(stop).to_be_focused()
    expect(stop).to_have_text(re.compile("Cancel"), use_inner_text=True)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Stop the build")).to_be_hidden()


def test_commands_break_between_words_only(calm_visit, open_page):
    page = calm_visit.sign_in(open_page(calm_visit, viewport={"width": 390, "height": 800}))
    page.goto(calm_visit.url + "/repositories/default/dev")
    lines = page.locator(".tool[open] .word", has_text="--dry-run").evaluate("word => word.getClientRects().length")
    assert lines == 1


def test_everything_that_matters_works_without_script(visit, open_page):
    page = visit.sign_in(open_page(visit, java_script_enabled=False), "mel")
    page.locator("#search").fill("billing")
    page.locator("#search").press("Enter")
    page.get_by_role("link", name="acme-billing").first.click()
    expect(page.get_by_role("heading", name="acme-billing 2.5.0")).to_be_visible()
    expect(page.locator(".copy").first).to_be_hidden()
    page.goto(f"{visit.url}/builds/{visit.site.build_of(visit.found['running'])}")
    expect(page.get_by_role("link", name="Refresh")).to_be_visible()
    expect(page.get_by_text("Running command pytest -q")).to_be_visible()
    expect(page.get_by_label("Follow")).to_be_hidden()
    page.locator("details.menu > summary").click()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.goto(visit.url + "/approvals")
    page.get_by_label("Comment").fill("without script")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("Approved. The execution goes on.")).to_be_visible()
    page.goto(visit.url + "/account/tokens")
    page.get_by_label("Name").fill("ci")
    page.get_by_role("button", name="Make the token").click()
    expect(page.get_by_text(re.compile("ent_[0-9A-Za-z]{49}"))).to_be_visible()
    page.get_by_text("Revoke ci").click()
    page.get_by_role("button", name="Revoke for good").click()
    expect(page.get_by_text("The token is revoked, with all made with it.")).to_be_visible()
    page.locator("details.menu > summary").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()


def test_a_one_time_link_leaves_the_address_bar_and_leads_to_a_password(visit, open_page):
    account = visit.site.person("newcomer", ["read"])
    code = visit.site.setup_code(account)
    page = open_page(visit)
    page.goto(f"{visit.url}/setup?code={code}")
    assert page.url == f"{visit.url}/setup"
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/account/password")
    for label in ("New password", "New password, once more"):
        page.get_by_label(label, exact=True).fill("a new long password")
    page.get_by_role("button", name="Set the password").click()
    expect(page.get_by_text("The password is set.")).to_be_visible()
    page.go_back()
    page.go_back()
    assert code not in page.url


def test_hostile_readmes_neither_run_nor_fetch(visit, open_page):
    texts = {"text/markdown": (*corpus.HTML, *corpus.MARKDOWN), "text/x-rst": corpus.RST}
    batches = [(kind, every[start : start + 40]) for kind, every in texts.items() for start in range(0, len(every), 40)]
    page = visit.sign_in(open_page(visit))
    for number, (kind, batch) in enumerate(batches):
        text = "\n\n".join(batch) if kind == "text/markdown" else batch[number % len(batch)]
        visit.site.package(
            "dev", f"hostile{number}", "1.0", metadata={"description": text, "description_content_type": kind}
        )
        address = f"{visit.url}/packages/default/dev/pypi/hostile{number}"
        page.goto(address)
        expect(page.get_by_role("heading", name="Description")).to_be_visible()
        for link in page.locator(".prose a").all()[:3]:
            link.hover()
        assert page.url == address
    assert len(batches) > 8
    assert visit.complaints == []
