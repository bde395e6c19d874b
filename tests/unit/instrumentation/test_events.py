import io
import logging
from typing import get_args

import msgspec

from replank.instrumentation import events
from replank.instrumentation.events import (
    AnyEvent,
    Bus,
    Event,
    HostStarted,
    MessageFailed,
    PhaseEnded,
    ReloadEnded,
    Warned,
)
from replank.instrumentation.log import line_of, log_event, log_to_stream, logger
from replank.instrumentation.status import HostStatus, ModuleStatus
from replank.report import ErrorReport, ModuleReport, Outcome, Phase, ReloadReport

ERROR = ErrorReport(phase="verify", module="ledger", kind="CheckError", message="books do not add")
REPORT = ReloadReport(
    id="7", outcome=Outcome.ROLLED_BACK, modules=(ModuleReport(name="ledger"),), error=ERROR
)


def test_listeners_are_told_in_order_until_they_unsubscribe():
    bus, seen = Bus(), []
    first = bus.subscribe(lambda event: seen.append(("first", event.text)))
    bus.subscribe(lambda event: seen.append(("second", event.text)))
    bus.publish(Warned(text="a"))
    first()
    first()
    bus.publish(Warned(text="b"))
    assert seen == [("first", "a"), ("second", "a"), ("second", "b")]


def test_every_event_is_one_that_those_who_follow_can_read():
    assert set(get_args(AnyEvent)) == set(Event.__subclasses__())
    assert {one.__name__ for one in get_args(AnyEvent)} < set(events.__all__)


def test_a_listener_that_raises_is_logged_and_the_others_are_told(caplog):
    bus, seen = Bus(), []

    def broken(event):
        raise ValueError("boom")

    bus.subscribe(broken)
    bus.subscribe(seen.append)
    with caplog.at_level(logging.ERROR, logger="replank"):
        bus.publish(Warned(text="a"))
    assert len(seen) == 1
    assert "a listener failed on Warned" in caplog.text


def test_a_listener_may_unsubscribe_while_it_is_told():
    bus, seen = Bus(), []

    def once(event):
        seen.append(event)
        stop()

    stop = bus.subscribe(once)
    bus.publish(Warned(text="a"))
    bus.publish(Warned(text="b"))
    assert len(seen) == 1


def test_every_event_survives_the_way_through_json():
    for event in (
        HostStarted(pid=1, modules=("ledger",)),
        PhaseEnded(id="7", phase=Phase.VERIFY, where="window", seconds=0.5),
        ReloadEnded(id="7", report=REPORT),
        MessageFailed(module="ledger", call="deposit", error=ERROR),
    ):
        line = msgspec.json.encode(event)
        assert msgspec.json.decode(line, type=AnyEvent) == event
        assert msgspec.json.decode(line)["type"] == type(event).__name__


def test_a_failed_reload_is_one_line_that_names_the_phase(caplog):
    assert line_of(ReloadEnded(id="7", report=REPORT)) == (
        "reload 7 of ledger rolled back in verify: books do not add"
    )
    with caplog.at_level(logging.DEBUG, logger="replank"):
        log_event(Warned(text="slow drain", module="ledger"))
        log_event(PhaseEnded(id="7", phase=Phase.SWAP, seconds=0.0012))
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "ledger: slow drain"),
        ("DEBUG", "reload 7: swap done in 1.2 ms"),
    ]


def test_a_status_survives_the_way_through_json():
    module = ModuleStatus(name="ledger", label="1", digest="sha256:0", generation=1, schema=1)
    status = HostStatus(pid=1, data_dir="d", started_at="now", modules=(module,))
    assert HostStatus.from_json(status.to_json()) == status


def lines_of(*events, level=logging.DEBUG):
    stream = io.StringIO()
    handler = log_to_stream(stream, level=level, as_json=True)
    before = logger.level
    try:
        for event in events:
            log_event(event)
        logger.error("by hand: %s", 5)
        try:
            raise ValueError("boom")
        except ValueError:
            logger.exception("it failed")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    return [msgspec.json.decode(line) for line in stream.getvalue().splitlines()]


def test_structured_lines_hold_the_fields_of_their_event():
    warned, ended, by_hand, failed = lines_of(
        Warned(text="slow\ndrain", module="ledger"), ReloadEnded(id="7", report=REPORT)
    )
    assert warned["level"] == "warning"
    assert (warned["type"], warned["module"], warned["text"]) == ("Warned", "ledger", "slow\ndrain")
    assert ended["message"] == "reload 7 of ledger rolled back in verify: books do not add"
    assert ended["report"]["error"]["kind"] == "CheckError"
    assert (by_hand["message"], by_hand["level"]) == ("by hand: 5", "error")
    assert "ValueError: boom" in failed["traceback"]
    assert all(line["logger"] == "replank" and line["at"] > 0 for line in (warned, by_hand))


def test_a_structured_line_is_written_whatever_text_a_module_raises(monkeypatch):
    # the report of a parallel test run cannot carry what pytest would catch of it
    monkeypatch.setattr(logging.getLogger("replank"), "propagate", False)
    first, *_ = lines_of(Warned(text="\ud800"))
    assert first["type"] == "Warned"
