"""Run a candidate's own tests, in a child of the probe that exists only for them.

The tests import the module by its usual name and get the stored candidate: a finder before all
others answers for that name, whatever folder pytest puts on the path. Nothing of it is loaded under
a private name, so that the tests see one module, packages and their parts included.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any, Final

from replank.code.probe_wire import ChildReport, ErrorFacts, Examine, TestCounts, TestRun
from replank.code.store import Version

TEST_MARK: Final = "test: "
"""Written before each test, so that one which never ends has a name."""
_NAMED_MAX: Final = 5
_TEXT_CHARS_MAX: Final = 4_000
_NOTHING_FOUND: Final = 5
_OPTIONS: Final = (
    *("-q", "--tb=short", "--color=no"),
    *("-p", "no:cacheprovider"),
    # It would take the traceback of a crash away from the probe.
    *("-p", "no:faulthandler"),
)


def run_tests(request: Examine, tests: TestRun, fault_fd: int) -> ChildReport:
    """Run the tests and say how they went; the process is the candidate's own.

    Args:
        request: The candidate.
        tests: Which tests.
        fault_fd: Where the name of each test is written before it runs.
    """
    try:
        pytest: Any = importlib.import_module("pytest")
    except ImportError as error:
        return _refused(
            request,
            "its tests cannot be run: pytest is missing",
            found=str(error),
            expected="pytest in the host's environment",
            do="install it there: pip install pytest; or take `tests` out of the configuration",
        )
    sys.dont_write_bytecode = True  # nothing may be written beside the stored version
    _publish(request, tests)
    watch = _Watch(fault_fd)
    began = perf_counter()
    status = int(pytest.main([*_OPTIONS, tests.path], plugins=[watch]))
    counts = TestCounts(passed=watch.passed, skipped=watch.skipped, seconds=perf_counter() - began)
    if watch.failures:
        return _failed(request, watch)
    if status == _NOTHING_FOUND:
        return _refused(
            request,
            f"there are no tests in {tests.path}",
            expected="functions named test_... in it",
            do="correct `tests` in the module's configuration",
        )
    if status:
        return _refused(
            request,
            f"its tests could not be run to their end: pytest answered {status}",
            found=f"{watch.last or 'no test'} was the last that began",
            expected="a run in which every test passes",
            do="run pytest on them by hand; what it printed is below",
        )
    return ChildReport(ok=True, tests=counts)


class _Watch:
    """What pytest tells: a plugin, found by the names of its hooks."""

    def __init__(self, fault_fd: int) -> None:
        self._fault_fd = fault_fd
        self.passed = 0
        self.skipped = 0
        self.last = ""
        self.failures: list[tuple[str, str, str]] = []
        """Name, place and text of each test that failed."""

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note which test runs."""
        self.last = nodeid
        with contextlib.suppress(OSError):
            os.write(self._fault_fd, f"{TEST_MARK}{nodeid}\n".encode())

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count one part of a test: its set-up, the test itself, or what follows."""
        if report.failed:
            self.failures.append((report.nodeid, _place(report), report.longreprtext))
        elif report.skipped:
            self.skipped += 1
        elif report.when == "call":
            self.passed += 1

    def pytest_collectreport(self, report: Any) -> None:
        """Note a file that cannot even be read."""
        if report.failed:
            self.failures.append((report.nodeid, _place(report), report.longreprtext))


def _place(report: Any) -> str:
    """Return "test_ledger.py:12": the failing line in the test's own file, else where it is."""
    file = Path(report.nodeid.partition("::")[0]).name
    entries = getattr(getattr(report.longrepr, "reprtraceback", None), "reprentries", ())
    for entry in reversed(entries):
        where = getattr(entry, "reprfileloc", None)
        if where is not None and Path(where.path).name == file:
            return f"{file}:{where.lineno}"
    location = getattr(report, "location", None)
    line = location[1] if location else None
    return file if line is None else f"{file}:{line + 1}"


def _failed(request: Examine, watch: _Watch) -> ChildReport:
    name, place, text = watch.failures[0]
    count = len(watch.failures)
    more = [other for other, _, _ in watch.failures[1:_NAMED_MAX]]
    error = ErrorFacts(
        kind="CheckError",
        what=f"its test {name} failed" + (f", and {count - 1} more" if count > 1 else ""),
        module=request.name,
        found=f"{count} failed, {watch.passed} passed"
        + (f"; also {', '.join(more)}" if more else ""),
        expected="every test passes",
        do="mend the candidate or its tests, and reload again",
        location=place,
        traceback=text[-_TEXT_CHARS_MAX:] + "\n",
    )
    return ChildReport(ok=False, error=error)


def _refused(request: Examine, what: str, **facts: str) -> ChildReport:
    error = ErrorFacts(kind="CheckError", what=what, module=request.name, **facts)
    return ChildReport(ok=False, error=error)


def _publish(request: Examine, tests: TestRun) -> None:
    version = request.version
    names = {request.name, version.entry, *_names_of(Path(tests.source))}
    for name in names:
        for loaded in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
            del sys.modules[loaded]
    sys.meta_path.insert(0, _CandidateFinder(version, frozenset(names)))


def _names_of(source: Path) -> set[str]:
    """Return the names by which a program imports a source: alone, and through its packages."""
    dotted = source.stem
    names = {dotted}
    folder = source.parent
    while (folder / "__init__.py").is_file():
        dotted = f"{folder.name}.{dotted}"
        names.add(dotted)
        folder = folder.parent
    return names


class _CandidateFinder(MetaPathFinder):
    """Answers for the candidate's names, and for nothing else."""

    def __init__(self, version: Version, names: frozenset[str]) -> None:
        self._version = version
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where the candidate is stored."""
        del path, target
        if fullname not in self._names:
            return None
        file = self._version.root / self._version.entry_file
        parts = [str(file.parent)] if self._version.is_package else None
        return importlib.util.spec_from_file_location(
            fullname, file, submodule_search_locations=parts
        )


__all__ = ["TEST_MARK", "run_tests"]
