"""The dashboard in a real Chromium: first paint, and its memory over 200 reloads.

`python -m bench.dashboard`; needs Chromium and playwright, and takes about a minute.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.browser.conftest import CHROMIUM, FLAGS, Served

RELOADS = 200
PAINTS = 5


def heap_mib(session: object) -> float:
    session.send("HeapProfiler.collectGarbage")
    return session.send("Runtime.getHeapUsage")["usedSize"] / 2**20


def main() -> None:
    from playwright.sync_api import sync_playwright

    print(f"load average at the start: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        served = Served(Path(folder))
        served.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            paints = []
            for _ in range(PAINTS):
                page = browser.new_context().new_page()
                page.goto(served.link)
                page.get_by_role("heading", name="Serving").wait_for()
                paints.append(
                    page.evaluate(
                        "performance.getEntriesByName('first-contentful-paint')[0].startTime"
                    )
                )
                page.context.close()
            print(f"first paint: {', '.join(f'{one:.0f} ms' for one in sorted(paints))}")
            page = browser.new_page()
            page.goto(served.link)
            page.get_by_role("heading", name="Serving").wait_for()
            session = page.context.new_cdp_session(page)
            # through the page's own token, so that 200 reloads do not start 200 processes
            reload = """async (token) => (await (await fetch('/control/reload', {method: 'POST',
                headers: {authorization: 'Bearer ' + token},
                body: JSON.stringify({modules: ['ledger']})})).json()).outcome"""
            for done in range(RELOADS + 1):
                if done in (60, 100, RELOADS):
                    page.wait_for_timeout(1_500)
                    nodes = page.evaluate("document.querySelectorAll('*').length")
                    print(f"after {done} reloads: heap {heap_mib(session):.2f} MiB, {nodes} nodes")
                served.source.write_text(served.source.read_text() + "#\n")
                assert page.evaluate(reload, served.token) == "committed"
        finally:
            browser.close()
            served.stop()
    print(f"load average at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
