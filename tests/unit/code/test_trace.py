"""What goes wrong is told with the author's paths, lines and names."""

from __future__ import annotations

from replank.code.trace import fault_traceback, location_in_fault, location_of


def test_the_innermost_line_of_the_candidate_is_found_in_a_fault(stored) -> None:
    version = stored({"__init__.py": "import ledger.a\n", "a.py": "x = 1\ny = 2\n"})
    text = (
        "Current thread 0x1 (most recent call first):\n"
        '  File "/usr/lib/python3.11/threading.py", line 9 in wait\n'
        f'  File "{version.root}/ledger/a.py", line 2 in spin\n'
        f'  File "{version.root}/ledger/__init__.py", line 1 in <module>\n'
    )
    assert location_in_fault(text, version) == "ledger/a.py:2"
    trace = fault_traceback(text, version)
    assert trace.index("__init__.py") < trace.index("a.py")
    assert f'File "{version.source}/a.py", line 2, in spin\n    y = 2' in trace
    assert "threading" not in trace


def test_a_fault_without_a_candidates_frame_has_no_place(stored) -> None:
    version = stored("x = 1\n")
    text = 'Fatal Python error\n  File "/elsewhere.py", line 9 in wait\n'
    assert location_in_fault(text, version) is None
    assert fault_traceback(text, version) == ""


def test_an_error_raised_elsewhere_has_no_place(stored) -> None:
    assert location_of(ValueError("x"), stored("x = 1\n")) is None


def test_the_place_of_an_error_is_that_of_its_cause_when_it_has_none_itself(load) -> None:
    loaded = load("def fail():\n    1 / 0\n")
    try:
        loaded.module.fail()
    except ZeroDivisionError as error:
        outer = ValueError("outer")
        outer.__cause__ = error
    assert location_of(outer, loaded.version) == "ledger.py:2"
