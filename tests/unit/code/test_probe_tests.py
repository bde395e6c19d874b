"""A candidate's own tests run in a child, against the candidate, and every end has a name."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import perf_counter

import pytest
import pytest_asyncio

from replank.code import probe_tests
from replank.code.probe import Probe, ProbeLimits, TestCounts, TestRun
from replank.code.store import Version
from replank.errors import CheckError

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMITS = ProbeLimits(seconds=30.0)
LEDGER = "def total(cents):\n    return cents\n"

# Source of the test file: place and words of the error.
WRONG = {
    "fails": (
        "from ledger import total\ndef test_total():\n    assert total(1) == 2\n",
        "test_ledger.py:3",
        "test_total failed",
    ),
    "raises in the candidate": (
        "import ledger\ndef test_fees():\n    assert True\n    ledger.fees()\n",
        "test_ledger.py:4",
        "test_fees failed",
    ),
    "cannot be imported": ("import no_such_thing\n", "test_ledger.py", "test_ledger.py failed"),
    "has no tests": ("x = 1\n", None, "there are no tests in"),
    "exits": (
        "import os\ndef test_leaves():\n    os._exit(7)\n",
        "test_ledger.py:3",
        "test_leaves ended the process: it exited with code 7",
    ),
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def probe() -> AsyncIterator[Probe]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # what is installed here costs seconds
        one = Probe()
        await one.start()
    yield one
    await one.close()


def written(folder: Path, text: str) -> TestRun:
    path = folder / "tests" / "test_ledger.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return TestRun(path=str(path), source=str(folder / "src" / "ledger.py"))


async def test_tests_that_pass_are_counted(
    probe: Probe, stored: Callable[..., Version], tmp_path: Path
) -> None:
    tests = written(
        tmp_path,
        """
        import pytest, ledger
        from ledger import total
        @pytest.mark.parametrize("cents", [1, 2, 3])
        def test_total(cents): assert total(cents) == cents
        @pytest.mark.skip(reason="later")
        def test_later(): ...
        """,
    )
    counts = await probe.run_tests(stored(LEDGER), "ledger", tests, limits=LIMITS)
    assert isinstance(counts, TestCounts)
    assert (counts.passed, counts.skipped) == (3, 1)


@pytest.mark.parametrize("case", WRONG)
async def test_whatever_is_wrong_with_tests_is_told_by_name_and_line(
    case: str, probe: Probe, stored: Callable[..., Version], tmp_path: Path
) -> None:
    text, place, words = WRONG[case]
    with pytest.raises(CheckError) as raised:
        await probe.run_tests(stored(LEDGER), "ledger", written(tmp_path, text), limits=LIMITS)
    assert words in raised.value.what
    assert raised.value.location == place
    assert raised.value.do


async def test_a_test_that_never_ends_is_named_with_its_line(
    probe: Probe, stored: Callable[..., Version], tmp_path: Path
) -> None:
    text = "def test_first(): pass\ndef test_hangs():\n    while True: pass\n"
    version = stored(LEDGER)
    began = perf_counter()  # how long pytest takes to begin, on this machine, now
    await probe.run_tests(
        version, "ledger", written(tmp_path, "def test_one(): pass\n"), limits=LIMITS
    )
    limits = ProbeLimits(seconds=0.5 + 3 * (perf_counter() - began))
    with pytest.raises(CheckError, match="test_hangs did not end") as raised:
        await probe.run_tests(version, "ledger", written(tmp_path, text), limits=limits)
    assert raised.value.location == "test_ledger.py:3"
    assert raised.value.found == "still running at test_ledger.py:3"


async def test_the_tests_see_the_candidate_and_not_the_file_beside_them(
    probe: Probe, stored: Callable[..., Version], tmp_path: Path
) -> None:
    """Another `ledger.py` lies in the very folder that pytest puts on the path."""
    version = stored("WHICH = 'candidate'\n")
    text = "import ledger\ndef test_which(): assert ledger.WHICH == 'candidate'\n"
    tests = written(tmp_path, text)
    Path(tests.path).with_name("ledger.py").write_text("WHICH = 'stray'\n")
    assert (await probe.run_tests(version, "ledger", tests, limits=LIMITS)).passed == 1


async def test_a_package_is_imported_with_its_parts(
    probe: Probe, stored: Callable[..., Version], tmp_path: Path
) -> None:
    version = stored(
        {"__init__.py": "from shop.parts import PRICE\n", "parts.py": "PRICE = 5\n"}, "shop"
    )
    text = "import shop.parts\ndef test_price(): assert shop.PRICE == shop.parts.PRICE == 5\n"
    tests = written(tmp_path, text)
    assert (await probe.run_tests(version, "shop", tests, limits=LIMITS)).passed == 1
    assert not list(version.root.rglob("__pycache__"))


async def test_a_module_in_a_package_is_known_by_its_full_name(tmp_path: Path) -> None:
    folder = tmp_path / "app" / "books"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder.parent / "__init__.py").touch()
    names = probe_tests._names_of(folder / "ledger.py")
    assert names == {"ledger", "books.ledger", "app.books.ledger"}


async def test_without_pytest_the_candidate_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, stored: Callable[..., Version], tmp_path: Path
) -> None:
    from replank.code.probe import _request

    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(probe_tests.importlib, "import_module", missing)
    tests = written(tmp_path, "def test_one(): pass\n")
    request = _request(1, stored(LEDGER), "ledger", LIMITS, tests)
    report = probe_tests.run_tests(request, tests, fault_fd=-1)
    assert report.error is not None
    assert "pytest is missing" in report.error.what
    assert "pip install pytest" in (report.error.do or "")
