"""A guarded step leaves nothing behind for which the interpreter would look for ever.

Before Python 3.13 an exception that was sent to a thread and taken back leaves a flag set; with a
profiler or tracer (coverage, a debugger) the interpreter then never comes out of its own loop. The
test runs in a process of its own, because it would hang.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from replank.errors import PhaseTimeout
from replank.verification.watchdog import Watchdog

watchdog = Watchdog()
with watchdog:
    watchdog.guard(lambda: None, 1.0, "a step that ends")
    if {late}:
        def loops():
            while True:
                pass
        try:
            watchdog.guard(loops, 0.05, "a step that does not")
        except PhaseTimeout:
            print("interrupted")
sys.setprofile(lambda *_: None)
(lambda: None)()
sys.setprofile(None)
print("alive")
"""


@pytest.mark.parametrize("late", [False, True])
def test_a_profiler_can_be_set_after_a_guarded_step(late: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(late=late)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.stdout.split() == (["interrupted"] if late else []) + ["alive"], done.stderr
