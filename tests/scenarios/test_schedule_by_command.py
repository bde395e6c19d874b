"""The schedule from outside: the control API, its client and the command line, one real host."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from replank import Host
from replank.cli.app import app
from replank.config import Config, HttpConfig, ReloadConfig
from replank.control.client import Client
from replank.control.server import ControlServer
from replank.errors import UsageError
from replank.settings import ScheduleConfig
from replank.testing.clock import FakeClock
from tests.scenarios.test_scheduled_reloads import reloaded, write


class Serving:
    def __init__(self, folder: Path, **schedule) -> None:
        write(folder / "counter.py", "1")
        self.folder, self.clock = folder, FakeClock()
        config = Config(
            data_dir=str(folder / "data"),
            reload=ReloadConfig(probe=False),
            http=HttpConfig(port=0),
            schedule=ScheduleConfig(**schedule),
        )
        self.host = Host({"counter": folder / "counter.py"}, config=config, clock=self.clock)
        self.server = ControlServer(self.host, self.host.config)

    async def __aenter__(self):
        await self.host.__aenter__()
        await self.server.__aenter__()
        return self

    async def __aexit__(self, *error):
        await self.server.__aexit__(*error)
        await self.host.__aexit__(*error)

    async def ask(self, act):
        def off_loop():
            with Client.find(self.folder / "data") as client:
                return act(client)

        return await asyncio.to_thread(off_loop)

    async def replank(self, *words):
        words = (*words, "--data-dir", str(self.folder / "data"))
        return await asyncio.to_thread(CliRunner().invoke, app, words)

    async def post(self, path, body):
        contact = json.loads((self.folder / "data" / "control.json").read_text())
        token = (self.folder / "data" / "token").read_text().strip()
        request = urllib.request.Request(
            contact["http"] + path,
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )

        def send():
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                return error.code, json.load(error)

        return await asyncio.to_thread(send)


async def test_a_client_schedules_lists_cancels_pauses_and_resumes(tmp_path):
    async with Serving(tmp_path) as serving:
        first = await serving.ask(lambda client: client.schedule("counter", at="22:30"))
        second = await serving.ask(
            lambda client: client.schedule(
                {"counter": "v2.py"}, cron="0 3 * * *", priority="low", retries=2
            )
        )
        assert (first.id, second.sources) == ("s1", {"counter": str(Path("v2.py").absolute())})
        await serving.ask(lambda client: client.cancel_scheduled("s1"))
        with pytest.raises(UsageError, match="cannot be cancelled"):
            await serving.ask(lambda client: client.cancel_scheduled("s1"))
        with pytest.raises(UsageError, match="cron line"):
            await serving.ask(lambda client: client.schedule("counter", cron="at night"))
        paused = await serving.ask(lambda client: client.pause_reloads(["counter"]))
        assert paused.paused == ("counter",)
        assert [(one.id, one.standing) for one in paused.requests] == [
            ("s2", "waiting"),
            ("s1", "cancelled"),
        ]
        assert (await serving.ask(lambda client: client.resume_reloads())).paused == ()


async def test_a_command_schedules_a_reload_that_is_done_at_its_time(tmp_path):
    async with Serving(tmp_path) as serving:
        said = await serving.replank("reload", "counter", "--in", "10m", "--priority", "high")
        assert said.exit_code == 0, said.output
        assert "s1" in said.output
        assert "its time at 2026-01-05 12:10:00 UTC" in said.output
        write(tmp_path / "counter.py", "2")
        done = asyncio.create_task(reloaded(serving.host))
        await serving.clock.advance(600)
        await done
        listed = await serving.replank("schedule", "list")
        assert re.search(r"answered; r\d+ committed", listed.output)
        assert max(map(len, listed.output.splitlines())) <= 80


async def test_a_command_that_has_to_wait_says_why_and_then_shows_the_report(tmp_path):
    async with Serving(tmp_path, quiet_hours=("09:00-17:00",)) as serving:
        deferred = asyncio.Event()
        serving.host.subscribe(
            lambda event: deferred.set() if type(event).__name__ == "ReloadDeferred" else None
        )
        command = asyncio.create_task(serving.replank("reload", "counter"))
        await asyncio.wait_for(deferred.wait(), 20)
        await serving.clock.reach("2026-01-05T17:00:00+00:00")
        said = await asyncio.wait_for(command, 20)
        assert said.exit_code == 0, said.output
        assert "request s1 waits: quiet hours until 2026-01-05 17:00:00 UTC" in said.output
        assert "committed" in said.output


@pytest.mark.parametrize(
    "words",
    [
        ("reload", "counter", "--in", "soon"),
        ("reload", "counter", "--at", "22:30", "--in", "5m"),
        ("reload", "counter", "--cron", "61 * * * *"),
        ("reload", "counter", "--priority", "urgent"),
        ("reload", "counter", "--in", "5m", "--allow-breaking", "*"),
        ("schedule", "cancel", "s9"),
        ("schedule", "pause", "nobody"),
    ],
)
async def test_a_wrong_command_ends_with_2_and_schedules_nothing(tmp_path, words):
    async with Serving(tmp_path) as serving:
        said = await serving.replank(*words)
        assert said.exit_code == 2, said.output
        assert serving.host.scheduled() == ()


async def test_over_tcp_a_schedule_names_no_file_and_bad_bodies_get_a_clear_4xx(tmp_path):
    async with Serving(tmp_path) as serving:
        add, path = "/control/schedule", str(tmp_path / "v2.py")
        assert (await serving.post(add, {"modules": {"counter": path}, "after_s": 5}))[0] == 403
        for body, status in (
            ({"modules": ["counter"], "after_s": "soon"}, 422),
            ({"modules": ["counter"], "after_s": -1}, 400),
            ({"modules": ["counter"], "priority": "urgent"}, 422),
            ({"modules": ["counter"], "cron": "x"}, 400),
            ({"modules": []}, 422),
            ({"modules": ["nobody"]}, 404),
        ):
            answered = await serving.post(add, body)
            assert answered[0] == status, (body, answered)
            assert answered[1]["error"]
        assert serving.host.scheduled() == ()
        status, record = await serving.post(add, {"modules": ["counter"], "after_s": 5})
        assert (status, record["id"]) == (201, "s1")
