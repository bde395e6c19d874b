import asyncio
import threading

import pytest
from click.testing import CliRunner

from replank.cli.app import app
from replank.config import Config, HttpConfig
from replank.control.server import ControlServer
from tests.unit.control.fake_host import FakeHost


class Serving:
    """A fake host with real doors, on a loop of its own: the commands block theirs."""

    def __init__(self, data_dir):
        self.data_dir = data_dir
        self.host = None
        self.stops = []
        self._ready, self._end = threading.Event(), None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(20)

    async def _serve(self):
        self._loop, self._end, self.host = asyncio.get_running_loop(), asyncio.Event(), FakeHost()
        config = Config(data_dir=str(self.data_dir), http=HttpConfig(port=0))
        async with ControlServer(self.host, config, on_stop=lambda: self.stops.append(1)):
            self._ready.set()
            await self._end.wait()


@pytest.fixture
def serving(tmp_path):
    with Serving(tmp_path / "data") as serving:
        yield serving


@pytest.fixture
def replank(tmp_path, monkeypatch):
    """Run the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    runner = CliRunner()

    def run(*words):
        return runner.invoke(app, [str(word) for word in words])

    return run
