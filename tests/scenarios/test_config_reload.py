"""A configuration read again while its host runs: what holds at once, and what needs a restart."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner

from replank import Host
from replank.cli.app import app
from replank.config import Config, ModuleConfig
from replank.control.server import ControlServer
from replank.errors import ConfigError, UsageError
from replank.instrumentation.events import ConfigReloaded, Warned
from replank.live_config import differences, is_live, merged
from replank.testing.clock import FakeClock
from tests.scenarios.test_scheduled_reloads import write

TOML = """
[modules.counter]
source = "counter.py"
{module}
[http]
port = {port}
[reload]
probe = false
{reload}
[schedule]
{schedule}
"""


class Place:
    def __init__(self, path):
        self.path = path
        self.file = path / "replank.toml"
        write(path / "counter.py", "1")
        self.write()

    def write(self, *, module="", port=0, reload="", schedule="", more=""):
        text = TOML.format(module=module, port=port, reload=reload, schedule=schedule) + more
        self.file.write_text(text)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def keys(changes):
    return [one.key for one in changes]


async def test_what_may_change_holds_at_once_and_the_rest_is_named(place):
    async with Host.open(place.file) as host:
        write(place.path / "v2.py", "2")
        place.write(
            module="drain_timeout_s = 0.5\nmax_waiting = 7\ndurable = true",
            port=9,
            reload="max_pause_s = 0.25",
            schedule="rate_limit = 3",
            more='[modules.other]\nsource = "other.py"\n',
        )
        text = place.file.read_text().replace('"counter.py"', '"v2.py"')
        place.file.write_text(text)
        report = await host.reload_config()
        assert keys(report.applied) == [
            "modules.counter.source",
            "modules.counter.max_waiting",
            "modules.counter.drain_timeout_s",
            "reload.max_pause_s",
            "schedule.rate_limit",
        ]
        assert keys(report.needs_restart) == [
            "modules.counter.durable",
            "http.port",
            "modules.other",
        ]
        assert host.config.reload.max_pause_s == 0.25
        assert host.config.drain_timeout_s("counter") == 0.5
        assert host.config.http.port == 0
        slot = host._routes.slot("counter")
        assert (slot.gate.waiting_max, slot.config.durable) == (7, False)
        assert (await host.reload("counter")).committed  # from its new place
        assert await host["counter"].version() == "2"
        again = await host.reload_config()
        assert (again.applied, keys(again.needs_restart)) == ((), keys(report.needs_restart))


async def test_new_hours_hold_for_what_waits_already(place):
    place.write(schedule='quiet_hours = ["09:00-17:00"]')
    host = Host.open(place.file)
    host._desk.agenda.clock = FakeClock()
    async with host:
        ticket = host.reload("counter")
        assert "quiet hours" in host.scheduled()[0].why
        place.write()
        await host.reload_config()
        assert (await asyncio.wait_for(ticket, 20)).committed


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"reload": "max_pause = 1"}, "did you mean reload.max_pause_s"),
        ({"reload": 'max_pause_s = "1s"'}, "replank.toml:"),
        ({"schedule": 'windows = ["at night"]'}, "replank.toml:"),
        ({"module": "drain_timeout_s ="}, "not valid TOML"),
    ],
)
async def test_a_wrong_file_changes_nothing_and_says_where(place, wrong, expected):
    async with Host.open(place.file) as host:
        before = host.config
        place.write(**wrong)
        with pytest.raises(ConfigError) as raised:
            await host.reload_config()
        assert expected in str(raised.value)
        assert host.config == before


async def test_a_host_without_a_file_says_so(place):
    async with Host({"counter": place.path / "counter.py"}, data_dir=place.path / "d") as host:
        with pytest.raises(UsageError, match="without a configuration file"):
            await host.reload_config()


async def test_what_was_given_on_top_of_the_file_stays(place):
    host = Host.open(place.file)
    host.config = Config(
        **{**{f: getattr(host.config, f) for f in host.config.__struct_fields__}, "data_dir": "x"}
    )
    async with host:
        place.write(reload="max_pause_s = 0.25")
        report = await host.reload_config()
        assert keys(report.applied) == ["reload.max_pause_s"]
        assert host.config.data_dir == "x"


async def test_a_watched_file_is_read_again_when_it_is_saved(place):
    told = asyncio.Queue()
    async with Host.open(place.file) as host:
        host.subscribe(
            lambda event: (
                told.put_nowait(event) if isinstance(event, ConfigReloaded | Warned) else 0
            )
        )
        await host.watch()
        place.write(reload="max_pause_s = 0.25")
        event = await asyncio.wait_for(told.get(), 20)
        assert event.applied == ("reload.max_pause_s",)
        place.write(reload="max_pause = 0.25")
        event = await asyncio.wait_for(told.get(), 20)
        assert "the configuration stays as it was" in event.text
        assert host.config.reload.max_pause_s == 0.25


async def test_a_command_reads_the_file_again_and_shows_both_kinds(place):
    async with Host.open(place.file) as host, ControlServer(host, host.config):
        data_dir = str(host.data_dir)
        place.write(reload="max_pause_s = 0.25", port=7)

        def replank(*words):
            return asyncio.to_thread(CliRunner().invoke, app, words)

        said = await replank("config", "reload", "--data-dir", data_dir)
        assert said.exit_code == 0, said.output
        assert "reload.max_pause_s: 1.0 → 0.25" in said.output
        assert "http.port: 0 → 7: needs a restart" in said.output
        place.write(reload="max_pause = 0.25")
        said = await replank("config", "reload", "--data-dir", data_dir, "--json")
        assert said.exit_code == 2
        assert json.loads(said.output)["do"] == "did you mean reload.max_pause_s?"
        said = await replank("config", "check", str(place.file))
        assert said.exit_code == 2


def test_every_difference_is_told_once_and_taking_over_the_live_ones_leaves_the_others():
    before = Config(modules={"a": ModuleConfig(source="a.py"), "b": ModuleConfig(source="b.py")})
    after = Config(
        data_dir="elsewhere",
        stop_timeout_s=1.0,
        modules={"a": ModuleConfig(source="c.py", persist="commit")},
    )
    changes = tuple(differences(before, after))
    assert {one.key: is_live(one.key) for one in changes} == {
        "data_dir": False,
        "stop_timeout_s": True,
        "modules.a.source": True,
        "modules.a.persist": False,
        "modules.b": False,
    }
    live = tuple(one for one in changes if is_live(one.key))
    left = differences(merged(before, after, live), after)
    assert [one.key for one in left] == ["data_dir", "modules.a.persist", "modules.b"]
