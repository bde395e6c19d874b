"""The dashboard in a real Chromium: first paint, and its memory over 200 reloads.

`python -m bench.dashboard`; in a clone, with Chromium and playwright (dependency group `browser`),
else it says why it is skipped. It takes about a minute. Prints JSON lines.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

PAINTS = 5
AT = (60, 100, 200)
"""Reloads after which the page is looked at; the last ends the run."""
RELOAD = """async (token) => (await (await fetch('/control/reload', {method: 'POST',
    headers: {authorization: 'Bearer ' + token},
    body: JSON.stringify({modules: ['ledger']})})).json()).outcome"""
"""Through the page's own token, so that 200 reloads do not start 200 processes."""


class Skipped(Exception):
    """What is missing here."""


def chromium() -> tuple[str, tuple[str, ...]]:
    """Return the browser and its flags.

    Raises:
        Skipped: There is no browser, or nothing to steer it with.
    """
    try:
        import playwright.sync_api  # noqa: F401 - whether it is there
        from tests.browser.conftest import CHROMIUM, FLAGS
    except ImportError as error:
        if str(error.name).startswith("tests"):
            raise Skipped("its tests are in a clone only: python -m bench dashboard") from None
        wanted = "requirements/optional.txt"
        raise Skipped(f"{error.name} is not installed: pip install -r {wanted}") from None
    if CHROMIUM is None:
        raise Skipped("no Chromium is installed: apt-get install chromium")
    return CHROMIUM, FLAGS


def paints(browser: Any, link: str) -> list[float]:
    """Return milliseconds to the first paint, each in a tab that has seen nothing before."""
    found = []
    for _ in range(PAINTS):
        page = browser.new_context().new_page()
        page.goto(link)
        page.get_by_role("heading", name="Serving").wait_for()
        script = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        found.append(round(page.evaluate(script), 1))
        page.context.close()
    return found


def held(page: Any, session: Any) -> dict[str, float]:
    """Return what the page holds after a collection of its garbage."""
    page.wait_for_timeout(1_500)  # what the page itself keeps waiting
    session.send("HeapProfiler.collectGarbage")
    size = session.send("Runtime.getHeapUsage")["usedSize"]
    nodes = page.evaluate("document.querySelectorAll('*').length")
    return {"heap_mib": round(size / 2**20, 2), "nodes": nodes}


def measure(reloads: list[int]) -> None:
    path, flags = chromium()
    from playwright.sync_api import sync_playwright
    from tests.browser.conftest import Served

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        served = Served(Path(folder))
        served.start()
        browser = playwright.chromium.launch(executable_path=path, args=list(flags))
        try:
            say(case="first paint", browser=browser.version, paints_ms=paints(browser, served.link))
            page = browser.new_page()
            page.goto(served.link)
            page.get_by_role("heading", name="Serving").wait_for()
            session = page.context.new_cdp_session(page)
            for done in range(1, max(reloads) + 1):
                served.source.write_text(served.source.read_text() + "#\n")
                assert page.evaluate(RELOAD, served.token) == "committed"
                if done in reloads:
                    say(case="an open page", reloads=done, **held(page, session))
        finally:
            browser.close()
            served.stop()


def say(**values: object) -> None:
    print(json.dumps({**values, "load_1min": round(os.getloadavg()[0], 2)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reloads", type=int, nargs="*", default=list(AT))
    options = parser.parse_args()
    try:
        measure(options.reloads)
    except Skipped as why:
        say(skipped=str(why))


if __name__ == "__main__":
    main()
