"""Every phase, in the window and in the pause, with every fault: the old serves on, whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.cells import Cell, cells, run

SEED = int(os.environ.get("REPLANK_SEED", "20240229"))


@pytest.mark.parametrize("cell", cells(), ids=str)
async def test_a_fault_changes_nothing(cell: Cell, tmp_path: Path) -> None:
    found = await run(cell, tmp_path, SEED)
    assert not found, "\n".join([f"seed {SEED}", *found])
