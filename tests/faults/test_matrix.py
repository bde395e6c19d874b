"""Every phase, in the window and in the pause, with every fault: the old serves on, whole.

The whole matrix, with three modules in each cell, is `python -m bench.faults`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.cells import Cell, run, some_cells

SEED = int(os.environ.get("REPLANK_SEED", "20240229"))


@pytest.mark.parametrize("cell", some_cells(SEED), ids=str)
async def test_a_fault_changes_nothing(cell: Cell, tmp_path: Path) -> None:
    found = await run(cell, tmp_path, SEED)
    replay = f"python -m bench.faults --seed {SEED} --cell {cell}"
    assert not found, "\n".join([*found, f"replay: {replay}"])
