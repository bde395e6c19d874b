"""A table that is written about as fast as it is copied: a decision, and the numbers for it."""

from types import SimpleNamespace

import pytest

from replank.errors import MigrationError
from replank.state.limits import StateLimits
from replank.state.mirror import CopyOutcome
from replank.state.transfer import TransferStatistics
from replank.state.windowed import WindowedTransfer


def decide(outcome: CopyOutcome, pause_s: float) -> None:
    transfer = WindowedTransfer.__new__(WindowedTransfer)
    transfer.module, transfer._limits = "ledger", StateLimits(pause_max_s=0.5)
    found = TransferStatistics(
        state="open", records=9_000, marks=800, rounds=(900, 850, 800), predicted_pause_s=pause_s
    )
    transfer._decide("accounts", SimpleNamespace(statistics=lambda: found), outcome)


@pytest.mark.parametrize(
    ("outcome", "pause_s"),
    [(CopyOutcome.READY, 9.0), (CopyOutcome.NOT_CONVERGING, 0.4), (CopyOutcome.NEEDS_READS, 0.4)],
)
def test_the_reload_goes_on_when_what_is_left_fits_the_pause(outcome, pause_s):
    decide(outcome, pause_s)


def test_else_it_is_rejected_with_what_was_left_in_each_round():
    with pytest.raises(MigrationError, match="accounts is written about as fast") as caught:
        decide(CopyOutcome.NOT_CONVERGING, 0.6)
    assert caught.value.found == "800 records left, 0.600 s to copy; 900, 850, 800 in each round"
    assert caught.value.expected == "at most max_pause_s = 0.5"
    assert caught.value.module == "ledger"
