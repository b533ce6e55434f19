"""The administration in a real browser: on a phone, without script, with the keyboard's order."""

import re

from playwright.sync_api import expect

POLICY = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "group/ops", "Action": "codeartifact:PublishPackageVersion", "Resource": "*"}]}'


def test_an_administrator_steers_without_script_on_a_phone(visit, open_page):
    page = visit.sign_in(open_page(visit, java_script_enabled=False, viewport={"width": 360, "height": 740}))
    page.locator("details.menu > summary").click()
    page.get_by_role("link", name="Administration").click()
    page.get_by_role("link", name="Users").click()
    page.get_by_label("Name", exact=True).fill("newcomer")
    page.get_by_label("approve").check()
    page.get_by_role("button", name="Make the user").click()
    expect(page.get_by_text("The user is made.")).to_be_visible()
    page.get_by_role("button", name="Make a sign-in link").click()
    expect(page.get_by_text(re.compile(r"/setup\?code="))).to_be_visible()
    page.get_by_role("button", name="Add to the group").click()
    expect(page.get_by_role("link", name="ops", exact=True)).to_be_visible()
    page.goto(visit.url + "/access/policy/default/prod")
    page.get_by_label("Policy", exact=True).fill(POLICY)
    page.get_by_role("button", name="Check and preview").click()
    expect(page.locator("#preview tr", has_text="user/newcomer")).to_contain_text("PublishPackageVersion")
    page.goto(visit.url + "/quotas/default")
    page.get_by_label("Limit of default/prod").fill("lots")
    page.get_by_label("Limit of default/prod").press("Enter")
    expect(page.get_by_label("Limit of default/prod")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Limit of default/prod").fill("20 GB")
    page.get_by_label("Limit of default/prod").press("Enter")
    expect(page.get_by_text("The quota is set.")).to_be_visible()
    page.goto(visit.url + "/keys")
    page.get_by_text(re.compile("Rotate")).first.click()
    page.get_by_role("button", name="Rotate now").first.click()
    expect(page.get_by_text("rotation waits for the worker")).to_be_visible()
    page.goto(visit.url + "/domains/default/new-repository")
    page.keyboard.type("dev")  # the first field has the focus
    page.get_by_label("Upstream 1").select_option("staging")
    page.get_by_label("Name", exact=True).press("Enter")
    expect(page.get_by_label("Name", exact=True)).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Name", exact=True).fill("tools")
    page.get_by_label("Name", exact=True).press("Enter")
    expect(page.get_by_text("The repository is made.")).to_be_visible()
    page.get_by_role("link", name="Settings").click()
    expect(page.get_by_label("Upstream 1")).to_have_value("staging")
    assert len(visit.complaints) == 2, "the browser notes the refused quota and the refused name, and nothing else"
    assert all(re.search(r"400 \(BAD REQUEST\)|409 \(CONFLICT\)", each) for each in visit.complaints)
    visit.complaints.clear()
