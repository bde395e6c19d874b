from replank.instrumentation.events import (
    ReloadEnded,
    ReloadStarted,
    TimerFailed,
    Warned,
    WorkerEnded,
    WorkerGaveUp,
    WorkerRestarted,
)
from replank.instrumentation.log import line_of
from replank.instrumentation.tally import Histogram, Tally
from replank.report import ErrorReport, ModuleReport, Outcome, Phase, PhaseReport, ReloadReport

ERROR = ErrorReport(phase="verify", module="ledger", kind="CheckError", message="no")


def ended(outcome=Outcome.COMMITTED, **more):
    phases = (
        PhaseReport(name=Phase.PREPARE, seconds=0.2),
        PhaseReport(name=Phase.MIGRATE, seconds=0.003, window_seconds=0.4),
    )
    report = ReloadReport(
        id="1",
        outcome=outcome,
        modules=(ModuleReport(name="ledger", records_migrated=5),),
        phases=phases,
        **more,
    )
    return ReloadEnded(id="1", report=report, at=77.5)


def test_a_value_is_counted_under_every_bound_that_it_does_not_exceed():
    histogram = Histogram((1.0, 2.0, 5.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert histogram.cumulative() == [(1.0, 2), (2.0, 3), (5.0, 3)]
    assert (histogram.count, histogram.total) == (4, 12.0)


def test_reloads_are_counted_by_outcome_and_by_the_phase_that_failed():
    tally = Tally()
    tally.note(ReloadStarted(id="1", modules=("ledger",)))
    assert tally.running == 1
    tally.note(ended(pause_s=0.004, total_s=0.7, calls_held=3, messages_held=2))
    assert (tally.running, tally.last_committed, tally.last_success_at) == (0, True, 77.5)
    tally.note(ended(Outcome.ROLLED_BACK, error=ERROR, pause_s=0.1))
    tally.note(ended(Outcome.REJECTED, error=ERROR))
    assert dict(tally.reloads) == {
        ("committed", ""): 1,
        ("rolled_back", "verify"): 1,
        ("rejected", "verify"): 1,
    }
    assert tally.last_committed is False
    assert tally.last_success_at == 77.5
    assert (tally.calls_held, tally.messages_held, tally.records_migrated) == (3, 2, 5)


def test_a_rejected_reload_had_no_pause_and_each_part_of_a_phase_is_counted_apart():
    tally = Tally()
    tally.note(ended(Outcome.REJECTED, error=ERROR))
    assert tally.pauses.count == 0
    assert tally.totals.count == 1
    assert {key: (one.count, one.total) for key, one in tally.phases.items()} == {
        ("prepare", "window"): (1, 0.2),
        ("migrate", "window"): (1, 0.4),
        ("migrate", "pause"): (1, 0.003),
    }


def test_a_phase_of_a_modules_own_invention_is_no_label():
    tally = Tally()
    odd = ErrorReport(phase="user text 123", module=None, kind="X", message="")
    for _ in range(3):
        tally.note(ended(Outcome.REJECTED, error=odd))
    assert dict(tally.reloads) == {("rejected", ""): 3}


def test_rollbacks_warnings_and_failed_timers_are_counted():
    tally = Tally()
    tally.note(ended(reason="rollback"))
    tally.note(Warned(text="x"))
    tally.note(TimerFailed(module="ledger", timer="sweep", error=ERROR))
    assert (tally.rollbacks, tally.warnings, tally.timer_failures["ledger"]) == (1, 1, 1)


def test_ends_and_restarts_of_workers_are_counted_and_told():
    ended = WorkerEnded(module="ledger", pid=7, how="it was ended by signal SIGSEGV")
    again = WorkerRestarted(module="ledger", pid=8, saved_at="", seconds=0.1)
    down = WorkerGaveUp(module="ledger", error=ERROR)
    tally = Tally()
    for event in (ended, again, ended, down):
        tally.note(event)
    assert (tally.worker_ends["ledger"], tally.worker_restarts["ledger"]) == (2, 1)
    assert line_of(ended) == "ledger: its process 7 ended: it was ended by signal SIGSEGV"
    assert line_of(again) == "ledger: serves in process 8, with its state as at its first start"
    assert line_of(down).startswith("ledger: stays down: ")
