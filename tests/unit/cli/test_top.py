import json

import msgspec

from replank.cli.top import View
from replank.control.client import Client
from replank.control.locate import read_contact
from replank.instrumentation.events import PhaseStarted, Warned
from replank.instrumentation.status import Gate
from replank.report import Phase
from tests.unit.cli.test_render import text_of


def test_one_picture_is_text_or_one_object(replank, serving):
    serving.host.recent.note(Warned(text="slow drain", module="ledger"))
    serving.host.recent.note(PhaseStarted(id="r1", phase=Phase.DRAIN))
    shown = replank("top", "--once", "--data-dir", serving.data_dir)
    assert shown.exit_code == 0
    assert "ledger: slow drain" in shown.output
    assert "drain (pause)" not in shown.output
    assert max(map(len, shown.output.splitlines())) <= 80
    facts = json.loads(replank("top", "--once", "--json", "--data-dir", serving.data_dir).output)
    assert facts["modules"][0]["name"] == "ledger"
    assert facts["calls_per_second"] == {"ledger": None}


def test_rates_events_and_closed_gates_are_those_since_the_look_before(serving):
    times = iter([100.0, 102.0, 103.0])
    real = serving.host.status
    calls, gate = 10, Gate.OPEN

    def status():
        found = real()
        module = msgspec.structs.replace(found.modules[0], calls=calls, gate=gate)
        return msgspec.structs.replace(found, modules=(module,))

    serving.host.status = status
    view = View(clock=lambda: next(times))
    with Client(read_contact(serving.data_dir)) as client:
        serving.host.recent.note(Warned(text="first"))
        view.look(client)
        assert view.rates() == {"ledger": None}
        calls, gate = 3010, Gate.CLOSED
        serving.host.recent.note(Warned(text="second"))
        view.look(client)
        assert view.rates() == {"ledger": 1500.0}
        text = text_of(view)
        assert "ledger 1,500/s" in text
        assert "calls wait for: ledger" in text
        assert text.count("first") == text.count("second") == 1
        calls = 5  # the host was started again: no negative rate
        view.look(client)
        assert view.rates() == {"ledger": 0.0}
    assert view.record()["calls_per_second"] == {"ledger": 0.0}


def test_a_live_view_ends_with_a_clear_word_when_the_host_does(replank, serving, monkeypatch):
    """Between two looks the host goes away."""
    import replank.cli.top as module

    gone = []

    def pause(_seconds):
        gone.append(1)
        serving.host.status = lambda: 1 / 0

    monkeypatch.setattr(module, "_pause", pause)
    shown = replank("top", "--data-dir", serving.data_dir)
    assert gone == [1]
    assert shown.exit_code != 0
    assert "ledger" in shown.output
    assert shown.stderr.startswith("error: ")
    assert "Traceback" not in shown.stderr
