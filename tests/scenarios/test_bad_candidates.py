"""Every broken candidate is refused, under load, and the next good edit works."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from replank import Host, Outcome
from replank.config import Config, ReloadConfig
from tests.scenarios.conftest import MODULES
from tests.scenarios.load import NOTHING_WRONG, Load
from tests.scenarios.test_reloads_under_load import settled

BROKEN = sorted(path.stem for path in (MODULES / "broken").glob("*.py"))
QUICK = Config(reload=ReloadConfig(probe_timeout_s=1.0, probe_memory_bytes=256 * 1024 * 1024))


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_candidate_is_rejected_under_load(
    name: str, tmp_path: Path, modules: Path
) -> None:
    source = tmp_path / "counter.py"
    shutil.copy(modules / "counter" / "v1.py", source)
    async with Host({"counter": source}, data_dir=tmp_path / "data", config=QUICK) as host:
        counter = host["counter"]
        async with Load(counter.add, counter.send.add, callers=10, senders=2) as load:
            await load.some_answers(20)
            shutil.copy(modules / "broken" / f"{name}.py", source)
            report = await host.reload("counter")
            await load.some_answers(20)
            assert report.outcome is Outcome.REJECTED
            assert report.pause_s == 0.0
            assert report.calls_held == 0
            assert report.error is not None
            assert report.error.module == "counter"
            assert report.error.phase == "prepare"
            assert report.error.do
            assert "counter 1.0 (generation 1)" in (report.error.serves or "")
            shutil.copy(modules / "counter" / "v2.py", source)
            mended = await host.reload("counter")
            assert mended.outcome is Outcome.COMMITTED, mended.error
            await load.some_answers(20)
        await settled(host, "counter")
        assert load.compare(await counter.account()) == NOTHING_WRONG


@pytest.mark.parametrize(
    ("name", "line"), [("syntax_error", None), ("raises_at_import", None), ("endless_loop", None)]
)
async def test_a_rejection_names_the_candidates_own_file_and_line(
    name: str, line: None, tmp_path: Path, modules: Path
) -> None:
    source = tmp_path / "counter.py"
    shutil.copy(modules / "counter" / "v1.py", source)
    async with Host({"counter": source}, data_dir=tmp_path / "data", config=QUICK) as host:
        shutil.copy(modules / "broken" / f"{name}.py", source)
        report = await host.reload("counter")
    assert report.error is not None
    assert report.error.location is not None
    assert report.error.location.startswith("counter.py:")
