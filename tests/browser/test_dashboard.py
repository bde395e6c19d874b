"""The dashboard as a user has it: in a real browser, on a real host."""

import itertools

import pytest
from bench.dashboard import RELOAD, held

FULL_HISTORY = 50  # reloads that the page keeps: HISTORY_MAX in model.js


def body_of(page):
    return page.locator("#detail")


def of_the_reload(page, text):
    return page.locator("#detail .what").get_by_text(text, exact=True)


def call(served, method, **arguments):
    return served.ask(f"/modules/ledger/{method}", arguments, token=False)


def test_it_shows_what_serves_and_follows_a_reload_of_another(page, served):
    row = page.get_by_role("article", name="ledger", exact=True)
    row.locator(".version").get_by_text("1.0", exact=True).wait_for()
    assert "token" not in page.url
    page.get_by_role("button", name="Started").last.click()  # what the host began with
    body_of(page).get_by_role("heading", name="Started").wait_for()
    assert page.locator(".phases").count() == 0  # nothing was reloaded
    call(served, "deposit", owner="ada", cents=5)
    served.edit('version="1.0"', 'version="1.1"')
    assert served.reload("ledger")["outcome"] == "committed"
    row.locator(".version").get_by_text("1.1", exact=True).wait_for()
    body_of(page).get_by_role("heading", name="Committed").wait_for()
    of_the_reload(page, "ledger 1.0 → 1.1").wait_for()
    phases = page.locator(".phases tbody th").all_inner_texts()
    assert phases == [
        "Prepare",
        "Drain",
        "Snapshot",
        "Migrate",
        "Swap",
        "Restore",
        "Verify",
        "Commit",
    ]
    assert body_of(page).get_by_text("2 of 2").is_visible()  # rehearsed, and in the pause
    page.locator("#traffic rect.longest").first.wait_for(state="attached")


def test_reload_and_rollback_by_button_ask_first_and_keep_the_state(page, served):
    call(served, "deposit", owner="bob", cents=5)
    served.edit('version="1.0", schema=1', 'version="2.0", schema=2')
    served.edit("cents: int = 0", "cents: int = 0\n    tier: str = 'basic'")
    page.get_by_role("button", name="Reload ledger").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("1.0 → 2.0").wait_for()
    assert dialog.get_by_text("tier added").first.is_visible()
    assert served.serving == "1.0"
    dialog.get_by_role("button", name="Reload now").click()
    of_the_reload(page, "ledger 1.0 → 2.0").wait_for()
    call(served, "deposit", owner="bob", cents=7)

    page.get_by_role("button", name="Roll back ledger").click()
    dialog.get_by_role("button", name="Cancel").click()
    assert served.serving == "2.0"
    page.get_by_role("button", name="Roll back ledger").click()
    dialog.get_by_role("button", name="Roll back now").click()
    of_the_reload(page, "ledger 2.0 → 1.0").wait_for()
    assert served.serving == "1.0"
    assert call(served, "balance", owner="bob") == 12


def test_it_shows_in_which_phase_a_reload_is_while_it_runs(page, served):
    go = served.folder / "go"
    served.edit(
        "@check",
        "@check(when='pause')\n    async def may_go(self) -> None:\n        import asyncio\n"
        f"        while not __import__('os').path.exists({str(go)!r}):\n"
        "            await asyncio.sleep(0.01)\n\n    @check",
    )
    page.get_by_role("button", name="Reload ledger").click()
    page.get_by_role("dialog").get_by_role("button", name="Reload now").click()
    page.get_by_role("heading", name="Reloading ledger").wait_for()
    page.locator("#steps .now").get_by_text("Verify").wait_for()
    assert page.locator("#steps .done").all_inner_texts()[-1] == "Restore"
    go.touch()
    page.get_by_role("heading", name="Serving").wait_for()
    body_of(page).get_by_role("heading", name="Committed").wait_for()


def test_a_bad_version_is_shown_as_text_with_what_to_do(page, served):
    served.edit("from replank", "raise ValueError('<img src=x onerror=alert(1)>')\nfrom replank")
    page.get_by_role("button", name="Reload ledger").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("heading", name="ledger: this would be rejected").wait_for()
    assert dialog.get_by_text("<img src=x onerror=alert(1)>").first.is_visible()
    assert page.locator("img[src=x]").count() == 0
    assert dialog.get_by_text("same shape").count() == 0  # of what was not loaded nothing is known
    dialog.get_by_role("button", name="Try all the same").click()
    body_of(page).get_by_role("heading", name="Rejected").wait_for()
    assert page.locator(".entry").first.inner_text().startswith("✘")
    page.get_by_role("heading", name="Serving").wait_for()


def test_it_waits_for_a_host_that_is_away_and_goes_on(page, served):
    before = page.locator("#where").inner_text()
    served.stop()
    page.get_by_role("heading", name="The host is away").wait_for()
    served.start()
    page.get_by_role("heading", name="Serving").wait_for()
    assert page.locator("#where").inner_text() != before
    served.edit('version="1.0"', 'version="1.1"')
    assert served.reload("ledger")["outcome"] == "committed"
    of_the_reload(page, "ledger 1.0 → 1.1").wait_for()


def test_a_version_on_probation_is_paused_and_kept_by_button(page, served):
    served.edit('version="1.0"', 'version="1.2"')
    assert served.reload("ledger")["outcome"] == "committed"
    card = page.get_by_role("article", name="Probation of ledger 1.2")
    card.get_by_role("button", name="Pause").click()
    card.get_by_text("paused").wait_for()
    card.get_by_role("button", name="Keep").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep it now").click()
    card.wait_for(state="detached")
    assert served.ask("/control/probation?module=ledger")["state"] == "promoted"


def test_a_version_on_probation_goes_back_by_button(page, served):
    served.edit('version="1.0"', 'version="1.3"')
    assert served.reload("ledger")["outcome"] == "committed"
    card = page.get_by_role("article", name="Probation of ledger 1.3")
    card.get_by_role("button", name="Go back").click()
    page.get_by_role("dialog").get_by_role("button", name="Go back now").click()
    of_the_reload(page, "ledger 1.3 → 1.0").wait_for()
    assert served.serving == "1.0"


def test_reloads_are_paused_and_resumed_by_button(page, served):
    page.get_by_role("button", name="Pause reloads").click()
    page.get_by_text("Reloads are paused").wait_for()
    assert served.ask("/control/schedule")["paused"] == ["*"]
    page.get_by_role("button", name="Resume reloads").click()
    page.get_by_text("Reloads are paused").wait_for(state="hidden")
    assert served.ask("/control/schedule")["paused"] == []


def test_it_opens_only_with_the_token(browser, served):
    context = browser.new_context()
    page = context.new_page()
    page.goto(served.started["dashboard"])
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    page.get_by_text("does not know this token").wait_for()
    assert page.locator("#page").is_hidden()
    page.get_by_label("Token").fill(served.token)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Serving").wait_for()
    context.close()


def test_it_can_be_used_without_a_mouse(page):
    page.get_by_role("article", name="ledger", exact=True).wait_for()
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.ariaLabel") == "Reload ledger":
            break
    else:
        pytest.fail("no key leads to the button")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Reload now").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.ariaLabel") == "Reload ledger"


def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_screen(browser, served):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not there")
    served.edit(
        "@check", "@check\n    def says_no(self) -> bool:\n        return False\n\n    @check"
    )
    assert served.reload("ledger")["outcome"] != "committed"
    context = browser.new_context(bypass_csp=True)  # axe is a script of the test's own
    page = context.new_page()
    page.goto(served.link)
    page.locator(".error").first.wait_for()
    for theme, width in itertools.product(("light", "dark"), (1280, 390)):
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = axe.Axe().run(page).response["violations"]
        serious = [one for one in found if one["impact"] in {"serious", "critical"}]
        assert not serious, [(one["id"], [n["html"] for n in one["nodes"]]) for one in serious]
    page.get_by_role("button", name="Reload ledger").click()  # and a plan that would be refused
    page.get_by_role("dialog").get_by_role("button", name="Cancel").wait_for()
    found = axe.Axe().run(page).response["violations"]
    assert not [one["id"] for one in found if one["impact"] in {"serious", "critical"}]
    context.close()


@pytest.mark.timeout(300)  # 85 real reloads
def test_a_page_that_stays_open_does_not_grow_once_its_history_is_full(page, served):
    session = page.context.new_cdp_session(page)

    def reload(count):
        for _ in range(count):
            served.source.write_text(served.source.read_text() + "#\n")
            assert page.evaluate(RELOAD, served.token) == "committed"

    reload(FULL_HISTORY + 5)
    full = held(page, session)
    reload(30)
    later = held(page, session)
    assert later["nodes"] <= full["nodes"] * 1.05
    assert later["heap_mib"] <= full["heap_mib"] * 1.15
