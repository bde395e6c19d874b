"""What a candidate leaves in its process is noticed before another is examined there."""

from __future__ import annotations

import gc
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from replank.code.probe_ground import Ground
from replank.memory import data_bytes


@contextmanager
def module() -> Iterator[None]:
    sys.modules["replank_tested_ground"] = types.ModuleType("replank_tested_ground")
    yield
    del sys.modules["replank_tested_ground"]


@contextmanager
def descriptor() -> Iterator[None]:
    number = os.open(os.devnull, os.O_RDONLY)
    yield
    os.close(number)


@contextmanager
def thread() -> Iterator[None]:
    end = threading.Event()
    one = threading.Thread(target=end.wait)
    one.start()
    yield
    end.set()
    one.join()


@contextmanager
def recursion() -> Iterator[None]:
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(usual + 1)
    yield
    sys.setrecursionlimit(usual)


@contextmanager
def collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@contextmanager
def stream() -> Iterator[None]:
    usual, sys.stderr = sys.stderr, sys.__stdout__
    yield
    sys.stderr = usual


@contextmanager
def memory() -> Iterator[None]:
    kept = bytearray(64 * 1024 * 1024)
    yield
    del kept


LEFT = [module, descriptor, thread, recursion, collector, stream, memory]


def test_where_nothing_was_left_the_ground_is_as_it_was() -> None:
    assert Ground.now().is_as_it_was()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what memory a process has")
def test_memory_that_counts_against_a_limit_is_known() -> None:
    assert data_bytes() > 1_000_000


@pytest.mark.parametrize("left", LEFT, ids=lambda one: one.__name__)
def test_what_is_left_is_noticed(left: Callable) -> None:
    ground = Ground.now()
    with left():
        assert not ground.is_as_it_was()
    assert Ground.now().is_as_it_was()
