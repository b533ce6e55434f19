"""Signing in as people do: an authenticator app with the keyboard alone, and an identity provider's own pages."""

import re
from pathlib import Path

import pyotp
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.site import PASSWORD
from tests.harness.identity import issuers, secrets_for, settings_for
from tests.harness.server import Server


def code_of(visit: Visit, seed: str) -> str:
    return pyotp.TOTP(seed).at(int(visit.site.world.now.timestamp()))


def only_refusals(visit: Visit) -> None:
    """A 403 is what these pages answer to a wrong or missing proof; browsers write that down, and nothing else."""
    assert [said for said in visit.complaints if "status of 403" not in said] == []
    visit.complaints.clear()


def test_an_authenticator_app_with_the_keyboard_alone(visit, open_page):
    page: Page = visit.sign_in(open_page(visit, viewport={"width": 320, "height": 800}))
    page.goto(visit.url + "/account/second-factor")
    page.get_by_role("button", name="Set it up").focus()
    page.keyboard.press("Enter")
    picture = page.get_by_alt_text("QR code with the key below")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.complete && image.naturalWidth") > 100
    seed = page.locator("[data-copy]").first.get_attribute("data-copy").replace(" ", "")
    page.keyboard.type(code_of(visit, seed))  # the field has the focus
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as text").click()
    written = Path(download.value.path()).read_text()
    codes = re.findall(r"^[0-9a-z]{4}(?:-[0-9a-z]{4}){3}$", written, re.MULTILINE)
    assert len(codes) == 10
    assert all(code in page.content() for code in codes)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    # Eleven minutes later a token is made: it asks, and goes on with what was filled in.
    visit.site.world.later(minutes=11)
    page.goto(visit.url + "/account/tokens")
    page.get_by_label("Name", exact=True).fill("laptop")
    page.get_by_role("button", name="Make the token").click()
    expect(page.get_by_role("heading", name="Is it you?")).to_be_visible()
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Tab")
    page.keyboard.type(code_of(visit, seed))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Your new token")).to_be_visible()
    # Somewhere else: password, then a code, then where one wanted to go.
    other = open_page(visit)
    other.goto(visit.url + "/account/tokens")
    other.keyboard.type("ada")
    other.keyboard.press("Tab")
    other.keyboard.type(PASSWORD)
    other.keyboard.press("Enter")
    other.wait_for_url("**/sign-in/second-factor")
    other.keyboard.type(codes[0])
    other.keyboard.press("Enter")
    other.wait_for_url("**/account/tokens")
    expect(other.get_by_role("rowheader", name="laptop")).to_be_visible()
    only_refusals(visit)


def test_an_identity_providers_own_pages(tmp_path, chromium):
    """A real server, a real provider in its own process, and a browser that keeps to both sides' policies."""
    data = tmp_path / "data"
    data.mkdir()
    with issuers() as outside:
        (data / "entrepot.toml").write_text(settings_for(outside.url, corp={"create_users": True}))
        outside.control("corp", silent=False, claims={"preferred_username": "ada"})
        server = Server(data, with_worker=False, environment=secrets_for("corp")).start()
        context = chromium.new_context()
        context.set_default_timeout(60_000)
        try:
            page = context.new_page()
            complaints: list[str] = []
            page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
            page.goto(server.url + "/account/tokens")
            page.get_by_role("link", name="Sign in with Corp").click()
            page.wait_for_url(f"{outside.url}/corp/authorize?*")
            page.get_by_role("button", name="Sign in as ada").click()
            page.wait_for_url(server.url + "/account/tokens")
            # The provider did not say when ada signed in there: what is dangerous sends her there once more.
            page.get_by_label("Name", exact=True).fill("laptop")
            page.get_by_role("button", name="Make the token").click()
            page.get_by_role("link", name="Sign in anew with Corp").click()
            page.get_by_role("button", name="Sign in as ada").click()
            page.wait_for_url(server.url + "/account/tokens")
            page.get_by_label("Name", exact=True).fill("laptop")
            page.get_by_role("button", name="Make the token").click()
            expect(page.get_by_role("heading", name="Your new token")).to_be_visible()
            page.locator("details.menu > summary").click()
            page.get_by_role("button", name="Sign out").click()
            page.wait_for_url(server.url + "/sign-in")
            page.goto(server.url + "/account")
            assert page.url.startswith(server.url + "/sign-in?")
            assert complaints == []
        finally:
            context.close()
            server.kill()
