"""What every scenario needs: a folder to work in and hosts that are always stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

MODULES = Path(__file__).parents[1] / "fixtures" / "modules"


@pytest.fixture
def modules() -> Path:
    """Return the folder of the versioned modules."""
    return MODULES
