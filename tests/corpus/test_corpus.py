"""Every bad edit is caught in its phase, every good one is taken, and no caller notices either."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corpus.edits import BAD, GOOD
from tests.corpus.trial import try_edits

KINDS = sorted({edit.kind for edit in BAD})
PARTS = 4


def wrong(verdicts) -> list[str]:
    return [
        f"{one.edit.name}: {one.outcome} {one.phase} {one.error} {one.message} "
        f"(answered {one.answered}, failed {one.failed}, lost {one.lost})"
        for one in verdicts
        if not one.as_expected
    ]


@pytest.mark.parametrize("kind", KINDS)
async def test_every_bad_edit_is_caught_in_its_phase_and_no_call_fails(
    kind: str, tmp_path: Path
) -> None:
    edits = [edit for edit in BAD if edit.kind == kind]
    verdicts = await try_edits(edits, tmp_path)
    assert len(verdicts) == len(edits)
    assert not wrong(verdicts)


async def test_the_same_is_caught_in_the_same_phase_in_a_process_of_its_own(tmp_path: Path) -> None:
    # one in four, and all that crash: `python -m bench.verify --isolated` tries every one
    crashes = {edit.name for edit in BAD if "crash" in edit.kind + edit.name}
    edits = [one for number, one in enumerate(BAD) if number % 4 == 0 or one.name in crashes]
    assert not wrong(await try_edits(edits, tmp_path, isolated=True))


@pytest.mark.parametrize("part", range(PARTS))
async def test_no_good_edit_is_refused_and_no_call_fails(part: int, tmp_path: Path) -> None:
    edits = GOOD[part::PARTS]
    verdicts = await try_edits(edits, tmp_path)
    assert len(verdicts) == len(edits)
    assert not wrong(verdicts)


def test_the_corpus_is_as_large_as_it_says() -> None:
    assert len(BAD) >= 60
    assert len(GOOD) >= 40
    assert set(KINDS) >= {"contract", "state", "behaviour", "latency", "leak", "import"}
    names = [edit.name for edit in (*BAD, *GOOD)]
    assert len(names) == len(set(names))
    assert all(edit.source for edit in (*BAD, *GOOD))
