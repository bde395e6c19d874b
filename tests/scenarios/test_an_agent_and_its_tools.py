"""An agent rewrites the file of its own tools fifty times, half of them badly, while it uses them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from replank import Host
from replank.config import Config, ReloadConfig

TOOLS = '''STATE = ("notes",)
notes = {}


def remember(key: str, text: str) -> int:
    """Keep a note."""
    notes[key] = text
    return len(notes)


def recall(key: str) -> str:
    return notes[key]


def check_notes() -> None:
    assert isinstance(notes, dict)
'''
BAD = (
    ("prepare", lambda text: text + "\ndef broken(:\n"),
    ("prepare", lambda text: f"Sure! Here are your tools:\n```python\n{text}```\n"),
    ("prepare", lambda text: "import there_is_no_such_package\n" + text),
    ("prepare", lambda text: text + "\nimport sys\nsys.exit(0)\n"),
    ("prepare", lambda text: text + "\nimport os\nos._exit(0)\n"),
    ("prepare", lambda _: ""),
    ("prepare", lambda text: text[: text.index("(key: str) -> str")]),
    ("prepare", lambda text: text.replace("notes", "memos")),
    ("prepare", lambda text: text.replace("notes = {}", "notes = []")),
    ("prepare", lambda text: text + "\nimport json\njson.dumps = lambda *_, **__: ''\n"),
    ("verify", lambda text: text.replace("isinstance(notes, dict)", "not notes")),
    ("prepare", lambda text: text + "\0"),
)


async def test_fifty_rewrites_half_of_them_bad_cost_no_call_and_no_note(tmp_path: Path) -> None:
    path, dumps, good = tmp_path / "tools.py", json.dumps, TOOLS
    path.write_text(good)
    config = Config(reload=ReloadConfig(import_effects="reject", probation_s=0.0))
    used = 0

    async with Host({"tools": path}, data_dir=tmp_path / "data", config=config) as host:

        async def use() -> None:
            nonlocal used
            while True:  # what fails here ends the group, and the test
                await host["tools"].remember("latest", str(used))
                assert await host["tools"].recall("latest") == str(used)
                used += 1
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            using = group.create_task(use())
            for number in range(25):
                phase, spoil = BAD[number % len(BAD)]
                path.write_text(spoil(good))
                report = await host.reload("tools", reason="agent")
                assert (report.outcome, report.error.phase) == ("rejected", phase), report.error
                assert report.error.do or report.error.location
                good += f"\n\ndef tool_{number}(n: int) -> int:\n    return n + {number}\n"
                path.write_text(good)
                report = await host.reload("tools", reason="agent")
                assert report.committed, report.error
                assert await getattr(host["tools"], f"tool_{number}")(1) == number + 1
            using.cancel()
        assert used > 50
        assert int(await host["tools"].recall("latest")) >= used - 1
        assert json.dumps is dumps
