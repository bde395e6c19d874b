"""Take the pictures of the dashboard in docs/images from a real run of the demo's shop.

`python -m tests.browser.pictures`; needs Chromium and playwright, and takes about a minute.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import replank.demo
from tests.browser.conftest import CHROMIUM, FLAGS, Served
from tests.docs.pages import ROOT

IMAGES = ROOT / "docs" / "images"
SHOP = Path(replank.demo.__file__).parent / "shop"
HEIGHTS = {1280: 1000, 390: 1700}


class Shop(Served):
    """The demo's two modules, under the demo's load."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        config = folder / "replank.toml"
        config.write_text(config.read_text().replace("[modules]", '[modules]\napi = "api.py"'))
        self.put("v1", "ledger", "api")

    def put(self, version: str, *names: str) -> None:
        for name in names:
            shutil.copy(SHOP / version / f"{name}.py", self.folder)

    def load(self) -> subprocess.Popen[bytes]:
        port = self.started["http"].rpartition(":")[2]
        words = ["--port", port, "--rate", "150", "--message-rate", "40", "--callers", "10"]
        command = [sys.executable, "-m", "replank.demo.loadgen", *words]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)


def play(shop: Shop, page: Any) -> None:
    """Reload as the demo does: committed, rolled back, rejected, and two modules at once."""
    for version, names in (
        ("v2", ["ledger"]),
        ("v3", ["ledger"]),
        ("v4", ["ledger"]),
        ("v5", ["ledger", "api"]),
    ):
        page.wait_for_timeout(8_000)
        shop.put(version, *names)
        shop.reload(*names)
    page.wait_for_timeout(9_000)


def take(browser: Any, shop: Shop) -> None:
    """Take one picture for each theme and width."""
    for theme in ("light", "dark"):
        for width, height in HEIGHTS.items():
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=theme
            )
            page = context.new_page()
            page.goto(shop.link)
            page.get_by_text("Certificate").wait_for()
            page.wait_for_timeout(2_500)
            page.screenshot(path=IMAGES / f"dashboard-{width}-{theme}.png")
            if (width, theme) == (1280, "light"):
                page.locator(".two").screenshot(path=IMAGES / "dashboard-reload.png")
            context.close()


def main() -> None:
    """Run the shop and take the pictures."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        shop = Shop(Path(folder))
        shop.start()
        load = shop.load()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            page = browser.new_page()
            page.goto(shop.link)
            play(shop, page)
            page.close()
            take(browser, shop)
        finally:
            load.kill()
            load.wait()
            shop.stop()


if __name__ == "__main__":
    main()
