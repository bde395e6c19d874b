"""A module's own tests are a gate before the swap: through the host, the report and the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from replank import Host, Outcome
from replank.config import Config, ModuleConfig, ReloadConfig

LEDGER = """
from replank import Module
class Ledger(Module, version="{v}"):
    total: int = 0
    async def deposit(self, cents: int) -> int:
        self.total += {what}
        return self.total
"""
TESTS = """
import asyncio
from ledger import Ledger
def test_a_deposit_is_added():
    ledger = Ledger()
    assert asyncio.run(ledger.deposit(5)) == 5
"""


def written(folder: Path) -> tuple[Path, Config]:
    source, tests = folder / "ledger.py", folder / "tests" / "test_ledger.py"
    tests.parent.mkdir()
    source.write_text(LEDGER.format(v="1", what="cents"))
    tests.write_text(TESTS)
    module = ModuleConfig(source=str(source), tests=str(tests))
    return source, Config(
        data_dir=str(folder / "data"),
        modules={"ledger": module},
        reload=ReloadConfig(probe=False),  # tests that are named run all the same
    )


async def test_a_candidate_that_fails_its_own_tests_is_rejected_and_a_good_one_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    source, config = written(tmp_path)
    async with Host(config=config) as host:
        assert await host["ledger"].deposit(5) == 5
        source.write_text(LEDGER.format(v="2", what="1"))
        report = await host.reload("ledger")
        assert report.outcome is Outcome.REJECTED
        assert report.error is not None
        assert report.error.kind == "CheckError"
        assert "test_a_deposit_is_added failed" in report.error.message
        assert report.error.location == "test_ledger.py:6"
        assert "assert 1 == 5" in report.error.traceback
        assert await host["ledger"].deposit(5) == 10

        source.write_text(LEDGER.format(v="3", what="cents * 1"))
        report = await host.reload("ledger")
        assert report.outcome is Outcome.COMMITTED, report.error
        assert report.modules[0].tests_passed == 1
        assert "1 tests passed" in report.phases[0].detail


async def test_tests_that_are_not_there_are_no_silent_pass(tmp_path: Path) -> None:
    source, config = written(tmp_path)
    (tmp_path / "tests" / "test_ledger.py").unlink()
    async with Host(config=config) as host:
        source.write_text(LEDGER.format(v="2", what="cents + 0"))
        report = await host.reload("ledger")
        assert report.outcome is Outcome.REJECTED
        assert "there are no tests at" in report.error.message
