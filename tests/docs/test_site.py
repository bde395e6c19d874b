"""The site is built from the pages as they stand, without a warning and without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, pages
from tests.docs.site import rewritten


def test_the_site_is_built_without_a_warning_and_asks_nothing_of_other_hosts(
    tmp_path: Path,
) -> None:
    pytest.importorskip("material", reason="mkdocs is not there: pip install --group docs")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    html = (tmp_path / "index.html").read_text("utf-8")
    assert "In one minute" in html
    asked = re.findall(r'<(?:script|link|img|iframe)[^>]*?(?:src|href)="(https?://[^"]+)"', html)
    assert not asked
    page = (tmp_path / "how-to" / "roll-back.html").read_text("utf-8")
    assert "ledger.py" in page
    assert "&lt;!-- run" not in page


def test_every_page_stands_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    named = [path.relative_to(ROOT / "docs").as_posix() for path in pages()[1:]]
    missing = [one for one in named if not re.search(rf"[ ]{re.escape(one)}$", text, re.MULTILINE)]
    assert not missing, "name them in mkdocs.yml"


def test_links_and_marks_of_a_page_are_those_of_the_site() -> None:
    text = "[a](docs/tutorial.md) [b](CHANGELOG.md#x)\n<!-- file: a.py -->\n```python\n1\n```\n<!-- run -->\n"
    assert rewritten(text, "README.md", "about.md") == (
        '[a](tutorial.md) [b](changes.md#x)\n```python title="a.py"\n1\n```\n'
    )
    assert (
        rewritten("[a](../../README.md)", "docs/how-to/x.md", "how-to/x.md") == "[a](../about.md)"
    )
