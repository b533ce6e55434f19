"""Pages that are open while something happens: logs that are followed, executions that move on, text that is copied."""

from playwright.sync_api import expect

from hooks.builds.phases import BuildStatus
from hooks.pipelines.steering import stop_execution

LINES = b"".join(b"more output, line %d\n" % number for number in range(200))


def test_a_log_is_followed_until_somebody_scrolls_up(visit, open_page):
    build = visit.site.build_of(visit.found["running"])
    page = visit.sign_in(open_page(visit))
    page.goto(f"{visit.url}/builds/{build}")
    follow, lines = page.get_by_label("Follow"), page.locator(".log-lines")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    visit.site.write_log(build, LINES)
    expect(page.get_by_text("more output, line 199")).to_be_in_viewport()
    expect(follow).to_be_checked()
    lines.hover()
    page.mouse.wheel(0, -2000)
    expect(follow).not_to_be_checked()
    visit.site.write_log(build, b"\x1b[31mthe last words\x1b[0m\n")
    expect(page.locator(".t-red", has_text="the last words")).to_be_attached()
    expect(page.get_by_text("the last words")).not_to_be_in_viewport()
    expect(follow).not_to_be_checked()
    follow.check()
    expect(page.get_by_text("the last words")).to_be_in_viewport()
    visit.site.end_build(build, BuildStatus.FAILED)
    expect(page.locator("#live .pill", has_text="Failed")).to_be_visible()
    expect(page.get_by_text("The build goes on")).to_be_hidden()
    expect(page.locator("#say")).to_contain_text("Failed")


def test_a_log_that_cannot_be_streamed_is_asked_for_instead_and_both_say_the_same(visit, open_page):
    build = visit.site.build_of(visit.found["running"])
    tails = visit.site.hook_services.tails
    page = visit.sign_in(open_page(visit))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.partition("?")[0].rpartition("/")[2]))
    page.goto(f"{visit.url}/builds/{build}")
    visit.site.write_log(build, b"by the stream\n")
    expect(page.get_by_text("by the stream")).to_have_count(1)
    assert asked.count("log") == 0
    taken = [tails.enter(-number) for number in range(tails.most - 1)]  # by others: none is left for another page
    other = visit.sign_in(open_page(visit))
    visit.complaints.clear()
    other.goto(f"{visit.url}/builds/{build}")
    visit.site.write_log(build, b"\x1b[32mby asking\x1b[0m\n")
    for each in (page, other):
        expect(each.locator(".t-green", has_text="by asking")).to_have_count(1)
        expect(each.get_by_text("by the stream")).to_have_count(1)
    assert [said for said in visit.complaints if "429" not in said] == []
    visit.complaints.clear()  # the browser's own word about the 429
    for leave in taken:
        leave()


def test_the_log_of_a_failed_build_opens_at_its_end(visit, open_page):
    build = visit.site.build_of(visit.found["running"])
    visit.site.write_log(build, LINES)
    visit.site.end_build(build, BuildStatus.FAILED)
    page = visit.sign_in(open_page(visit))
    page.goto(f"{visit.url}/builds/{build}")
    expect(page.get_by_text("more output, line 199")).to_be_in_viewport()
    page.goto(f"{visit.url}/builds/{build}#L3")
    page.reload()
    expect(page.locator("#L3")).to_be_in_viewport()
    page.get_by_role("link", name="To the end").click()
    expect(page.get_by_text("more output, line 199")).to_be_in_viewport()


def test_a_page_that_moves_on_keeps_focus_and_selection(visit, open_page):
    execution = visit.found["running"]
    page = visit.sign_in(open_page(visit))
    page.goto(f"{visit.url}/executions/{execution}")
    link = page.get_by_role("link", name="Build and log")
    link.focus()
    visit.site.end_build(visit.site.build_of(execution))
    expect(page.get_by_role("heading", name="Approve / ReleaseManager")).to_be_visible()
    expect(link).to_be_focused()
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#live h1'))")
    with visit.site.services.db.write() as session:
        stop_execution(
            session, visit.site.world.parts, execution, actor="ada", reason="", abandon=True, now=visit.site.clock()
        )
    for _ in range(2):
        with page.expect_response("**/live"):
            pass
    assert page.evaluate("getSelection().toString()").startswith("acme-invoice-templates")
    page.evaluate("getSelection().removeAllRanges()")
    expect(page.locator("#live .pill", has_text="Stopped").first).to_be_visible()


def test_lines_can_be_pointed_at(calm_visit, open_page):
    build = calm_visit.site.build_of(calm_visit.found["failed"])
    page = calm_visit.sign_in(open_page(calm_visit))
    page.goto(f"{calm_visit.url}/builds/{build}")
    page.get_by_role("link", name="3", exact=True).click()
    assert page.url.endswith("#L3")
    page.get_by_role("link", name="5", exact=True).click(modifiers=["Shift"])
    assert page.url.endswith("#L3-L5")
    expect(page.locator(".log-line.marked")).to_have_count(3)
    page.goto(f"{calm_visit.url}/builds/{build}#L2-L4")
    page.reload()
    expect(page.locator(".log-line.marked")).to_have_count(3)


def test_an_execution_moves_on_before_ones_eyes_and_a_comment_is_not_lost(visit, open_page):
    execution = visit.found["running"]
    page = visit.sign_in(open_page(visit), "mel")
    page.goto(f"{visit.url}/executions/{execution}")
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    visit.site.end_build(visit.site.build_of(execution))
    expect(page.get_by_role("button", name="Approve")).to_be_visible()
    page.get_by_label("Comment").fill("half a sent")
    page.locator("h1").click()
    with visit.site.services.db.write() as session:
        stop_execution(
            session, visit.site.world.parts, execution, actor="ada", reason="", abandon=True, now=visit.site.clock()
        )
    with page.expect_response("**/live"):
        pass
    with page.expect_response("**/live"):
        pass
    expect(page.get_by_label("Comment")).to_have_value("half a sent")
    page.get_by_label("Comment").fill("")
    page.locator("h1").click()
    expect(page.locator("#live .pill", has_text="Stopped").first).to_be_visible()


def test_a_server_that_is_away_for_a_moment_is_asked_again(visit, open_page):
    execution = visit.found["running"]
    page = visit.sign_in(open_page(visit))
    page.goto(f"{visit.url}/executions/{execution}")
    asked = []
    page.route("**/live", lambda route: (asked.append(1), route.abort())[1] if len(asked) < 2 else route.continue_())
    visit.site.end_build(visit.site.build_of(execution), BuildStatus.FAILED)
    expect(page.locator("#live .pill", has_text="Failed").first).to_be_visible(timeout=30_000)
    assert len(asked) == 2
    visit.complaints[:] = [said for said in visit.complaints if "ERR_FAILED" not in said]


def test_copying_and_saying_so(calm_visit, open_page):
    page = calm_visit.sign_in(open_page(calm_visit, permissions=["clipboard-read", "clipboard-write"]))
    page.goto(calm_visit.url + "/packages/default/dev/pypi/acme-billing")
    page.get_by_role("button", name="Copy the command for pip").click()
    expect(page.get_by_role("status").filter(has_text="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("pip install --index-url ")


def test_copying_on_plain_http(calm_visit, open_page):
    page = open_page(calm_visit)
    url = calm_visit.url.replace("127.0.0.1", "entrepot.test")
    calm_visit.sign_in(page, url=url)
    assert page.evaluate("window.isSecureContext") is False
    page.goto(url + "/packages/default/dev/pypi/acme-billing")
    page.get_by_role("button", name="Copy the command for pip").click()
    expect(page.get_by_role("status").filter(has_text="Copied")).to_be_visible()
    # Browsers say that they ignore this header where they cannot trust the address; it does no harm there.
    calm_visit.complaints[:] = [said for said in calm_visit.complaints if "Cross-Origin-Opener-Policy" not in said]
    page.locator("#search").focus()
    page.keyboard.press("Control+V")
    assert page.locator("#search").input_value().startswith(f"pip install --index-url {url}/pypi/default/dev/simple/")
