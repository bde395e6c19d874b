"""Sixty reloads of every outcome under load: the process holds afterwards what it held before."""

from __future__ import annotations

from pathlib import Path

from replank.config import Config, ReloadConfig
from tests.scenarios.soaking import soak

QUICK = Config(reload=ReloadConfig(probe=False, leak_check_s=0.0))  # leaks: test_leaks


async def test_sixty_reloads_of_every_outcome_leave_nothing_behind(tmp_path: Path) -> None:
    soaked = await soak(tmp_path, 60, every=3, config=QUICK)
    assert soaked.outcomes == {"committed": 30, "rejected": 20, "rolled_back": 10}
    assert soaked.wrong == {}
    later = soaked.samples[len(soaked.samples) // 4 :]
    assert len({one.descriptors for one in later}) == 1
    assert len({one.threads for one in later}) == 1
    assert len({one.tasks for one in later}) == 1
    # One generation of this module is about 3,000 blocks: forty that stayed would be 60 %.
    assert soaked.growth(lambda one: one.blocks) < 0.05
