"""Packages, plain files, live objects, timers, tasks and other threads survive reloads."""

from __future__ import annotations

import asyncio
from pathlib import Path

from replank import Host, Outcome
from replank.config import Config, ReloadConfig

PROBELESS = Config(reload=ReloadConfig(probe=False))


def package(folder: Path, version: str) -> Path:
    root = folder / "billing"
    root.mkdir(exist_ok=True)
    (root / "__init__.py").write_text(
        "import billing.rates\nfrom billing.models import Bill\nfrom . import rates\n"
        "from importlib import resources\nfrom replank import Module\n"
        f"class Billing(Module, version='{version}'):\n"
        "    bills: list[Bill]\n"
        "    async def add(self, cents: int) -> tuple:\n"
        "        import billing.models as models\n"
        "        self.bills.append(models.Bill(cents=cents))\n"
        "        assert isinstance(self.bills[0], Bill)\n"
        "        text = resources.files('billing').joinpath('terms.txt').read_text()\n"
        "        return billing.rates.RATE, text, len(self.bills)\n"
    )
    (root / "models.py").write_text(
        "from replank import Record\nclass Bill(Record):\n    cents: int = 0\n"
    )
    (root / "rates.py").write_text(f"RATE = '{version}'\n")
    (root / "terms.txt").write_text(f"terms {version}")
    return root


async def test_a_package_sees_its_own_parts_and_resources_in_every_version(tmp_path: Path) -> None:
    root = package(tmp_path, "1")
    async with Host({"billing": root}, data_dir=tmp_path / "data") as host:
        assert await host["billing"].add(5) == ("1", "terms 1", 1)
        package(tmp_path, "2")
        report = await host.reload("billing")
        assert report.outcome is Outcome.COMMITTED, report.error
        assert await host["billing"].add(5) == ("2", "terms 2", 2)


async def test_a_plain_file_of_functions_keeps_its_state(tmp_path: Path) -> None:
    source = tmp_path / "tools.py"
    text = (
        'STATE = ("hits", "seen")\nhits = 0\nseen = {{}}\n'
        "def count(name: str) -> tuple:\n    global hits\n    hits += 1\n"
        "    seen[name] = seen.get(name, 0) + 1\n    return ({version}, hits, seen[name])\n"
        "def check_hits():\n    assert hits == sum(seen.values())\n"
    )
    source.write_text(text.format(version=1))
    async with Host({"tools": source}, data_dir=tmp_path / "data") as host:
        assert await host["tools"].count("a") == (1, 1, 1)
        source.write_text(text.format(version=2))
        report = await host.reload("tools")
        assert report.outcome is Outcome.COMMITTED, report.error
        assert await host["tools"].count("a") == (2, 2, 2)


async def test_a_plain_files_migration_function_is_found_by_name(tmp_path: Path) -> None:
    source = tmp_path / "tools.py"
    source.write_text('STATE = ("hits",)\nhits = 3\ndef read():\n    return hits\n')
    async with Host({"tools": source}, data_dir=tmp_path / "data", config=PROBELESS) as host:
        source.write_text(
            'STATE = ("visits",)\nvisits = 0\ndef read():\n    return visits\n'
            "def migrate_1_2(old):\n    return {'visits': old['hits'] * 10}\n"
        )
        report = await host.reload("tools")
        assert report.outcome is Outcome.COMMITTED, report.error
        assert await host["tools"].read() == 30


async def test_a_changed_shape_without_a_step_is_rejected_with_the_step_to_paste(
    tmp_path: Path,
) -> None:
    source = tmp_path / "store.py"
    text = "from replank import Module\nclass Store(Module):\n    {field}\n    async def read(self): return 1\n"
    source.write_text(text.format(field="total: int = 0"))
    async with Host({"store": source}, data_dir=tmp_path / "data", config=PROBELESS) as host:
        source.write_text(text.format(field="amount: int = 0"))
        report = await host.reload("store")
        assert report.outcome is Outcome.REJECTED
        assert report.error is not None
        assert "total removed" in (report.error.found or "")
        assert "step(1, 2" in (report.error.do or "")


async def test_a_live_object_is_handed_over_as_it_is(tmp_path: Path) -> None:
    source = tmp_path / "store.py"
    text = (
        "import threading\nfrom replank import Carry, Module\n"
        "class Store(Module, version='{v}'):\n    lock: Carry[object] = None\n"
        "    async def which(self):\n        self.lock = self.lock or threading.Lock()\n"
        "        return '{v}', id(self.lock)\n"
    )
    source.write_text(text.format(v=1))
    async with Host({"store": source}, data_dir=tmp_path / "data", config=PROBELESS) as host:
        _, first = await host["store"].which()
        source.write_text(text.format(v=2))
        assert (await host.reload("store")).outcome is Outcome.COMMITTED
        assert await host["store"].which() == ("2", first)


async def test_timers_and_spawned_tasks_go_on_exactly_once(tmp_path: Path) -> None:
    source = tmp_path / "ticker.py"
    text = (
        "import asyncio\nfrom replank import Carry, Module, every\n"
        "class Ticker(Module, version='{v}'):\n    seen: Carry[list | None] = None\n"
        "    async def on_start(self):\n        self.seen = self.seen or []\n"
        "        if '{v}' == '1':\n            self.spawn(self.pump())\n{fail}"
        "    @every(0.005)\n    async def tick(self):\n        self.seen.append(('tick', '{v}'))\n"
        "    async def pump(self):\n        while True:\n            self.seen.append(('pump', '{v}'))\n"
        "            await asyncio.sleep(0.005)\n"
        "    async def look(self):\n        found, self.seen[:] = list(self.seen), []\n        return found\n"
    )

    async def seen(host: Host) -> set[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        await host["ticker"].look()
        while {kind for kind, _ in found} != {"tick", "pump"}:
            await asyncio.sleep(0)
            found += await host["ticker"].look()
        return set(found)

    source.write_text(text.format(v=1, fail=""))
    async with Host({"ticker": source}, data_dir=tmp_path / "data", config=PROBELESS) as host:
        tasks = host._routes.slot("ticker").tasks
        assert await seen(host) == {("tick", "1"), ("pump", "1")}
        source.write_text(text.format(v=2, fail="        raise OSError('no')\n"))
        assert (await host.reload("ticker")).outcome is Outcome.ROLLED_BACK
        assert await seen(host) == {("tick", "1"), ("pump", "1")}
        assert tasks.running == 2
        source.write_text(text.format(v=3, fail=""))
        assert (await host.reload("ticker")).outcome is Outcome.COMMITTED
        assert await seen(host) == {("tick", "3"), ("pump", "3")}
        assert tasks.running == 2


async def test_another_thread_calls_through_the_same_gate(tmp_path: Path) -> None:
    source = tmp_path / "store.py"
    text = (
        "from replank import Module\nclass Store(Module, version='{v}'):\n    total: int = 0\n"
        "    async def add(self, n: int) -> tuple:\n        self.total += n\n"
        "        return '{v}', self.total\n"
    )
    source.write_text(text.format(v=1))
    async with Host({"store": source}, data_dir=tmp_path / "data", config=PROBELESS) as host:
        blocking = host["store"].blocking

        def calls() -> list[tuple[str, int]]:
            return [blocking.add(1) for _ in range(200)]

        thread = asyncio.create_task(asyncio.to_thread(calls))
        source.write_text(text.format(v=2))
        assert (await host.reload("store")).outcome is Outcome.COMMITTED
        answers = await thread
        assert [total for _, total in answers] == list(range(1, 201))
        assert sorted(answers, key=lambda one: one[0]) == answers


async def test_a_task_of_any_kind_goes_on_from_where_it_stands_after_a_rollback(
    tmp_path: Path,
) -> None:
    source = tmp_path / "pumper.py"
    text = (
        "import asyncio\nfrom replank import Carry, Module\n"
        "class Pumper(Module, version='{v}'):\n    steps: int = 0\n"
        "    go: Carry[asyncio.Event | None] = None\n"
        "    async def begin(self, event):\n        self.go = event\n"
        "        self.spawn(self._pump(10))\n"
        "    async def _pump(self, size):\n        while True:\n"
        "            await self.go.wait()\n            self.go.clear()\n"
        "            self.steps += size\n"
        "    async def read(self):\n        return self.steps\n{fail}"
    )
    source.write_text(text.format(v=1, fail=""))
    async with Host({"pumper": source}, data_dir=tmp_path / "data", config=PROBELESS) as host:
        go = asyncio.Event()
        pumper = host["pumper"]
        await pumper.begin(go)
        go.set()
        while await pumper.read() < 10:
            await asyncio.sleep(0)
        source.write_text(
            text.format(v=2, fail="    async def on_start(self):\n        raise OSError('no')\n")
        )
        host.subscribe(lambda event: go.set())  # wakes it in the middle of the pause
        assert (await host.reload("pumper")).outcome is Outcome.ROLLED_BACK
        go.set()
        before = await pumper.read()
        while await pumper.read() == before:
            go.set()
            await asyncio.sleep(0)
        assert host._routes.slot("pumper").tasks.running == 1


FRIENDS = """
from __future__ import annotations
from dataclasses import dataclass, field
from replank import Module, Table

@dataclass
class Turn:
    text: str
    {lang}

@dataclass
class Session:
    user: str
    turns: list[Turn] = field(default_factory=list)
    friend: Session | None = None

class Bot(Module, version="{version}"):
    sessions: dict[str, Session] = {{}}
    by_word: dict[str, list[Turn]] = {{}}

    def say(self, user: str, text: str) -> None:
        turn = Turn(text)
        self.sessions.setdefault(user, Session(user)).turns.append(turn)
        self.by_word.setdefault(text, []).append(turn)
        for one in self.sessions.values():
            one.friend = self.sessions[user]

    def translate(self, word: str, lang: str) -> None:
        for turn in self.by_word[word]:
            turn.lang = lang

    def look(self):
        ada = self.sessions["ada"]
        return (
            ada.turns[0] is self.by_word["hi"][0],
            ada.friend.friend is ada.friend,
            type(ada).__module__ == type(ada.turns[0]).__module__ == __name__,
            [getattr(turn, "lang", None) for turn in self.by_word["hi"]],
        )
"""


async def test_objects_that_know_each_other_go_up_down_and_up_again_as_they_are(
    tmp_path: Path,
) -> None:
    source = tmp_path / "bot.py"
    source.write_text(FRIENDS.format(version="1", lang=""))
    async with Host({"bot": source}, data_dir=tmp_path / "data") as host:
        for user in ("ada", "bob"):
            await host["bot"].say(user, "hi")
        assert await host["bot"].look() == (True, True, True, [None, None])
        source.write_text(FRIENDS.format(version="2", lang="lang: str = 'en'"))
        up = await host.reload("bot")
        assert up.committed, up.error
        assert await host["bot"].look() == (True, True, True, ["en", "en"])
        await host["bot"].translate("hi", "fr")
        back = await host.rollback("bot")
        assert back.committed, back.error
        assert await host["bot"].look() == (True, True, True, [None, None])
        again = await host.reload("bot")
        assert again.committed, again.error
        assert await host["bot"].look() == (True, True, True, ["fr", "fr"])


async def test_a_class_without_fields_that_is_renamed_is_rejected_with_what_can_be_done(
    tmp_path: Path,
) -> None:
    text = """
from replank import Module

class Level:
    pass

class Game(Module):
    level: Level | None = None

    def start(self) -> None:
        self.level = Level()
"""
    source = tmp_path / "game.py"
    source.write_text(text)
    async with Host({"game": source}, data_dir=tmp_path / "data") as host:
        await host["game"].start()
        source.write_text(text.replace("Level", "Stage"))
        report = await host.reload("game")
        assert report.error is not None
        assert report.error.do is not None
        assert "convert('level', up=..., down=...)" in report.error.do
        assert "or keep the name" in report.error.do
