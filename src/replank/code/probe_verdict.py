"""From how a child ended to what its candidate's author is told."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Final

import msgspec

from replank import errors
from replank.code.probe_tests import TEST_MARK
from replank.code.probe_wire import (
    BROKEN_MARK,
    BROKEN_STATUS,
    ChildReport,
    ErrorFacts,
    Examined,
    ProbeLimits,
    TestCounts,
    TestRun,
)
from replank.code.store import Version
from replank.code.trace import fault_traceback, location_in_fault
from replank.errors import CheckError, InternalError, ModuleError, SourceError

_OUTPUT_CHARS_SHOWN: Final = 2_000


def decode_report(report: bytes) -> ChildReport:
    """Read what a child wrote.

    Raises:
        InternalError: It is no report.
    """
    try:
        return msgspec.msgpack.decode(report, type=ChildReport)
    except msgspec.MsgspecError as error:
        raise InternalError("the probe's report cannot be read", found=str(error)) from error


def judge_tests(
    answer: Examined, version: Version, name: str, tests: TestRun, limits: ProbeLimits
) -> TestCounts:
    """Return how good tests went; raise what is wrong with bad ones.

    Args:
        answer: How the child ended.
        version: The candidate.
        name: The module's name in the host.
        tests: Which tests were run.
        limits: What they were allowed.

    Raises:
        CheckError: What the author has to do.
        InternalError: The child failed through no fault of the candidate.
    """
    if answer.status == 0 and answer.report and not answer.timed_out:
        report = decode_report(answer.report)
        if report.error is not None:
            raise _with_trace(_raised_again(report.error), report.error.traceback, answer)
        return report.tests or TestCounts()
    if answer.status == BROKEN_STATUS and BROKEN_MARK in answer.fault:
        raise InternalError("the probe itself failed", module=name, found=answer.fault.strip())
    begun = re.findall(rf"^{TEST_MARK}(.*)$", answer.fault, re.MULTILINE)
    which = f"its test {begun[-1]}" if begun else f"what its tests in {tests.path} import"
    location = _place_in_tests(answer.fault, tests) or location_in_fault(answer.fault, version)
    if answer.timed_out:
        said = f"{which} did not end: all tests together have {limits.seconds:g} s"
        found = f"still running at {location}" if location else "still running"
    else:
        said = f"{which} ended the process: {_ending(answer.status)}"
        found = _ending(answer.status)
    error = CheckError(
        said,
        module=name,
        found=found,
        expected=f"tests that end within {limits.seconds:g} s",
        do="mend the candidate or its test, or raise reload.tests_timeout_s",
        location=location,
    )
    raise _with_trace(error, fault_traceback(answer.fault, version), answer)


def _place_in_tests(fault: str, tests: TestRun) -> str | None:
    """Return the innermost line of the tests in what `faulthandler` wrote."""
    path = Path(tests.path)
    for file, line in re.findall(r'File "([^"]+)", line (\d+) in ', fault):
        if Path(file) == path or path in Path(file).parents:
            return f"{Path(file).name}:{line}"
    return None


def judge(answer: Examined, version: Version, name: str, limits: ProbeLimits) -> ChildReport:
    """Return the report of a good candidate; raise what is wrong with a bad one.

    Args:
        answer: How the child ended.
        version: The candidate.
        name: The module's name in the host.
        limits: What it was allowed.

    Raises:
        ModuleError: What the author has to do.
        InternalError: The child failed through no fault of the candidate.
    """
    if answer.status == 0 and answer.report and not answer.timed_out:
        report = decode_report(answer.report)
        if report.error is None:
            return report
        raise _with_trace(_raised_again(report.error), report.error.traceback, answer)
    if answer.status == BROKEN_STATUS and answer.fault.startswith(BROKEN_MARK):
        raise InternalError("the probe itself failed", module=name, found=answer.fault.strip())
    location = location_in_fault(answer.fault, version)
    if answer.timed_out:
        error = SourceError(
            f"the candidate did not finish loading within {limits.seconds:g} s",
            module=name,
            found=f"still running at {location}" if location else "still running",
            expected="a module whose import and constructor end",
            do="move endless work into a task that on_start spawns",
            location=location or version.entry_file,
        )
    else:
        error = SourceError(
            f"the candidate ended its process: {_ending(answer.status)}",
            module=name,
            found=_ending(answer.status),
            expected="a module whose import and constructor return",
            do="look at the line; find what crashes or exits there",
            location=location or version.entry_file,
        )
    raise _with_trace(error, fault_traceback(answer.fault, version), answer)


def _ending(status: int) -> str:
    if status >= 0:
        return f"it exited with code {status}"
    try:
        return f"it was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"it was killed by signal {-status}"


def _raised_again(facts: ErrorFacts) -> ModuleError:
    kind = getattr(errors, facts.kind, SourceError)
    made: ModuleError = (kind if issubclass(kind, ModuleError) else SourceError)(
        facts.what,
        module=facts.module,
        found=facts.found,
        expected=facts.expected,
        do=facts.do,
        location=facts.location,
    )
    return made


def _with_trace(error: ModuleError, trace: str, answer: Examined) -> ModuleError:
    """Add the candidate's frames and its last words: often they say more than the exception."""
    if answer.output.strip():
        trace += f"Printed by the candidate:\n{answer.output[-_OUTPUT_CHARS_SHOWN:]}"
    error.candidate_traceback = trace
    return error


__all__ = ["decode_report", "judge", "judge_tests"]
