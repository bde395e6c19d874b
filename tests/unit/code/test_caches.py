"""What belongs to a generation is found by its name among all that is loaded."""

from __future__ import annotations

import sys
import types

import pytest

from replank.code.caches import modules_below


def test_the_parts_of_a_generation_are_found_in_order_and_none_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("shop@1.tax.eu", "shop@1", "shop@11", "myshop@1", "shop@1.tax", "shop@1_2"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    assert modules_below("shop@1") == ["shop@1", "shop@1.tax", "shop@1.tax.eu"]
    assert modules_below("shop@7") == []
