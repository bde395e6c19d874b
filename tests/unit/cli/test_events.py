import json

from replank.cli.events import line_of_item
from replank.control.wire import Closed, Gap, Overtaken
from replank.instrumentation.events import Warned


def test_events_are_one_line_each_or_one_object(replank, serving):
    serving.host.recent.note(Warned(text="slow drain", module="ledger"))
    shown = replank("events", "--data-dir", serving.data_dir)
    assert shown.exit_code == 0
    assert shown.output.endswith(" ledger: slow drain\n")
    facts = json.loads(replank("events", "--json", "--data-dir", serving.data_dir).output)
    assert facts["events"][0]["text"] == "slow drain"


def test_following_ends_when_the_host_says_that_it_stops(replank, serving):
    serving.host.recent.note(Warned(text="a"))
    end = serving._loop.call_soon_threadsafe
    subscribed = serving.host.recent.reader

    def reader(after):  # as soon as somebody follows
        end(serving.host.recent.close)
        return subscribed(after)

    serving.host.recent.reader = reader
    shown = replank("events", "--follow", "--json", "--data-dir", serving.data_dir)
    kinds = [json.loads(line)["type"] for line in shown.output.splitlines()]
    assert kinds == ["Warned", "Closed"]
    assert shown.exit_code == 0


def test_an_unknown_type_is_refused_with_those_that_there_are(replank, serving):
    shown = replank("events", "--type", "Reload", "--data-dir", serving.data_dir)
    assert shown.exit_code == 2
    assert "ReloadEnded" in shown.stderr


def test_what_the_feed_has_to_say_is_told_in_words():
    assert "started again" in line_of_item(Gap())
    assert line_of_item(Gap(missed=3)) == "-- 3 events were left out"
    assert line_of_item(Overtaken(missed=2, do="x")) == "-- 2 events were left out"
    assert line_of_item(Closed(reason="the host stops")) == "-- the host stops"
