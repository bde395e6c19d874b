"""The watcher on real files: what is saved is reloaded, and what is not is said."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from replank import Host
from replank.config import Config, ReloadConfig
from replank.instrumentation.events import ReloadEnded, SourcesNoticed
from replank.report import Outcome
from replank.scheduling.eyes import repository_is_busy
from replank.settings import WatchConfig

SOURCE = """
from replank import Module{more}

class {name}(Module, version="{version}"):
    {uses}
    async def version(self) -> str:
        return "{version}"
"""
DEADLINE_S = 20


class Folder:
    """Modules in a folder, a host that watches them, and what happened, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.happened: asyncio.Queue = asyncio.Queue()
        self.host: Host

    def write(self, version, name="ledger", uses=None, path=None):
        text = SOURCE.format(
            name=name.capitalize(),
            version=version,
            more=", Uses, uses" if uses else "",
            uses=f'{uses}: Uses = uses("{uses}")' if uses else "value: int = 0",
        )
        path = path or self.path / f"{name}.py"
        path.write_text(text)
        return path

    @contextlib.asynccontextmanager
    async def watching(self, *names, sources=None, **watch):
        config = Config(
            reload=ReloadConfig(probe=False), watch=WatchConfig(**{"rescan_s": 60.0, **watch})
        )
        names = names or ("ledger",)
        sources = sources or {name: self.path / f"{name}.py" for name in names}
        self.host = Host(sources, data_dir=self.path / "data", config=config)
        async with self.host:
            self.host.subscribe(self._note)
            self.watcher = await self.host.watch()
            yield self.host

    def _note(self, event) -> None:
        if isinstance(event, SourcesNoticed | ReloadEnded):
            self.happened.put_nowait(event)

    async def next(self, kind):
        """Return the next event of a kind; others before it are passed over."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                event = await self.happened.get()
                if isinstance(event, kind):
                    return event

    async def reloaded(self):
        return (await self.next(ReloadEnded)).report

    async def why_nothing(self):
        async with asyncio.timeout(DEADLINE_S):
            while True:
                event = await self.next(SourcesNoticed)
                if event.detail:
                    return event.detail

    def reloads_left(self):
        left = [self.happened.get_nowait() for _ in range(self.happened.qsize())]
        return [event for event in left if isinstance(event, ReloadEnded)]

    async def version(self, name="ledger"):
        return await self.host[name].version()


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def plainly(path: Path, text: str) -> None:
    path.write_text(text)


def by_rename(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.swp123")
    beside.write_text(text)
    beside.replace(path)


def by_backup_and_new_file(path: Path, text: str) -> None:
    path.rename(path.with_name(path.name + "~"))
    path.write_text(text)


def in_pieces(path: Path, text: str) -> None:
    with path.open("w") as file:
        for at in range(0, len(text), 20):
            file.write(text[at : at + 20])
            file.flush()


def by_delete_and_create(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def same_size_same_time(path: Path, text: str) -> None:
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "save",
    [
        plainly,
        by_rename,
        by_backup_and_new_file,
        in_pieces,
        by_delete_and_create,
        same_size_same_time,
    ],
)
async def test_however_an_editor_saves_the_new_code_serves_after_one_reload(folder, save):
    path = folder.write("1")
    async with folder.watching(settle_s=0.1):  # a busy machine may stop between two pieces
        for version in ("2", "3"):
            save(path, path.read_text().replace(f'"{int(version) - 1}"', f'"{version}"'))
            report = await folder.reloaded()
            assert report.committed
            assert report.reason == "watch"
            assert await folder.version() == version
        assert folder.reloads_left() == []


async def test_a_save_without_a_change_says_that_nothing_changes(folder):
    path = folder.write("1")
    async with folder.watching():
        path.write_text(path.read_text())
        assert await folder.why_nothing() == "ledger: no change in what is loaded"
        assert folder.reloads_left() == []


async def test_files_that_belong_to_no_module_are_passed_over(folder):
    path = folder.write("1")
    async with folder.watching():
        for name in (
            "notes.txt",
            "ledger.py~",
            ".ledger.py.swp",
            "other.py",
            "4913",
            "#ledger.py#",
        ):
            (folder.path / name).write_text("x = ")
        folder.write("2")
        notice = await folder.next(SourcesNoticed)
        assert (notice.files, notice.total, notice.modules) == ((path.name,), 1, ("ledger",))


async def test_a_truncated_file_and_a_deleted_one_change_nothing_and_say_so(folder):
    path = folder.write("1")
    async with folder.watching():
        path.write_text("")
        assert "ledger.py is empty" in await folder.why_nothing()
        path.unlink()
        assert "there is no" in await folder.why_nothing()
        assert await folder.version() == "1"
        folder.write("2")
        assert (await folder.reloaded()).committed
        assert await folder.version() == "2"


async def test_a_broken_save_is_rejected_once_and_the_next_good_one_is_taken(folder):
    path = folder.write("1")
    async with folder.watching():
        good = path.read_text()
        path.write_text("class Ledger(:\n")
        assert (await folder.reloaded()).outcome is Outcome.REJECTED
        path.write_text("class Ledger(:\n")
        assert "was tried before" in await folder.why_nothing()
        path.write_text(good)
        assert "no change in what is loaded" in await folder.why_nothing()
        folder.write("2")
        assert (await folder.reloaded()).committed


async def test_new_changed_and_deleted_files_of_a_package_are_its_versions(folder):
    package = folder.path / "ledger"
    package.mkdir()
    folder.write("1", path=package / "__init__.py")
    async with folder.watching(sources={"ledger": package}):
        text = (package / "__init__.py").read_text()
        (package / "parts").mkdir()
        (package / "parts" / "__init__.py").write_text("LABEL = '2'\n")
        assert (await folder.reloaded()).committed
        (package / "__init__.py").write_text(
            text.replace("from replank", "from .parts import LABEL\nfrom replank").replace(
                'return "1"', "return LABEL"
            )
        )
        assert (await folder.reloaded()).committed
        assert await folder.version() == "2"
        (package / "parts" / "__init__.py").write_text("LABEL = '3'\n")
        assert (await folder.reloaded()).committed
        assert await folder.version() == "3"
        (package / "parts" / "__init__.py").unlink()
        assert (await folder.reloaded()).outcome is Outcome.REJECTED
        assert await folder.version() == "3"


async def test_tied_modules_that_change_together_are_one_transaction(folder):
    folder.write("1")
    folder.write("1", "api", uses="ledger")
    folder.write("1", "other")
    async with folder.watching("ledger", "api", "other", settle_s=0.1):
        folder.write("2")
        folder.write("2", "other")
        folder.write("2", "api", uses="ledger")
        reports = [await folder.reloaded(), await folder.reloaded()]
        assert sorted(sorted(m.name for m in one.modules) for one in reports) == [
            ["api", "ledger"],
            ["other"],
        ]
        assert all(one.committed for one in reports)


async def test_a_module_tried_in_vain_goes_along_when_its_tied_one_is_mended(folder):
    folder.write("1")
    folder.write("1", "api", uses="ledger")
    async with folder.watching("ledger", "api"):
        api = folder.write("2", "api", uses="ledger")
        api.write_text(api.read_text().replace('uses("ledger")', 'uses("ledger", ">=2")'))
        assert (await folder.reloaded()).outcome is Outcome.REJECTED
        folder.write("2")
        report = await folder.reloaded()
        assert [one.name for one in report.modules] == ["api", "ledger"]
        assert report.committed


def git(folder, *words):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(("git", *identity, *words), cwd=folder, check=True, capture_output=True)


async def test_a_checkout_of_500_files_is_one_transaction_for_each_tied_set(folder):
    git(folder.path, "init", "-q")
    (folder.path / ".gitignore").write_text("data\n")
    packages = {}
    for name in ("ledger", "api", "other"):
        packages[name] = folder.path / name
        packages[name].mkdir()
    for version in ("1", "2"):
        for name, uses in (("ledger", None), ("api", "ledger"), ("other", None)):
            folder.write(version, name, uses, packages[name] / "__init__.py")
            for number in range(170):
                (packages[name] / f"part{number}.py").write_text(f"X = {version}\n")
        git(folder.path, "add", ".")
        git(folder.path, "commit", "-qm", version)
        git(folder.path, "tag", f"v{version}")
    git(folder.path, "checkout", "-q", "v1")
    async with folder.watching(sources=packages):
        await asyncio.to_thread(git, folder.path, "checkout", "-q", "v2")
        reports = [await folder.reloaded(), await folder.reloaded()]
        assert sorted(sorted(m.name for m in one.modules) for one in reports) == [
            ["api", "ledger"],
            ["other"],
        ]
        assert all(one.committed for one in reports)
        for name in packages:
            assert await folder.version(name) == "2"
        assert folder.reloads_left() == []


async def test_nothing_is_taken_up_while_git_writes(folder, monkeypatch):
    git(folder.path, "init", "-q")
    folder.write("1")
    lock = folder.path / ".git" / "index.lock"
    looks = []

    def is_busy(place):
        looks.append(folder.happened.empty())
        if len(looks) == 4:
            lock.unlink()
        return repository_is_busy(place)

    async with folder.watching():
        lock.touch()
        monkeypatch.setattr("replank.scheduling.watch.repository_is_busy", is_busy)
        folder.write("2")
        assert (await folder.reloaded()).committed
    assert looks[:4] == [True] * 4


async def test_what_was_saved_while_no_host_ran_is_taken_up_at_the_start(folder):
    folder.write("1")
    async with folder.watching():
        pass
    folder.write("2")
    async with folder.watching():
        assert (await folder.reloaded()).committed
        assert await folder.version() == "2"


async def test_a_rollback_is_not_undone_by_the_watcher(folder):
    folder.write("1")
    async with folder.watching(rescan_s=0.05) as host:
        folder.write("2")
        await folder.reloaded()
        assert (await host.rollback("ledger")).committed
        await folder.reloaded()
        looks = 0
        seen = asyncio.Event()
        told = folder.watcher._told

        def count(paths):
            nonlocal looks
            looks += 1
            told(paths)
            if looks == 3:
                seen.set()

        folder.watcher._notices._told = count
        await asyncio.wait_for(seen.wait(), DEADLINE_S)
        assert await folder.version() == "1"
        assert folder.reloads_left() == []


async def test_a_folder_that_is_replaced_is_watched_again(folder):
    old, new = folder.path / "ledger", folder.path / "ledger.new"
    for package, version in ((old, "1"), (new, "2")):
        package.mkdir()
        folder.write(version, path=package / "__init__.py")
    async with folder.watching(sources={"ledger": old}):
        old.rename(folder.path / "ledger.old")
        new.rename(old)
        assert (await folder.reloaded()).committed
        assert await folder.version() == "2"
        folder.write("3", path=old / "__init__.py")
        assert (await folder.reloaded()).committed
        assert await folder.version() == "3"


async def test_a_link_to_a_source_is_followed(folder):
    real = folder.path / "elsewhere"
    real.mkdir()
    folder.write("1", path=real / "ledger_v.py")
    (folder.path / "ledger.py").symlink_to(real / "ledger_v.py")
    async with folder.watching():
        folder.write("2", path=real / "ledger_v.py")
        assert (await folder.reloaded()).committed
        folder.write("3", path=real / "other_v.py")
        link = folder.path / "new"
        link.symlink_to(real / "other_v.py")
        link.replace(folder.path / "ledger.py")
        assert (await folder.reloaded()).committed
        assert await folder.version() == "3"


@pytest.mark.parametrize("watch", [{"polling": True}, {"rescan_s": 0.2}])
async def test_changes_are_found_without_notices_of_the_system(folder, watch, monkeypatch):
    folder.write("1")
    if "rescan_s" in watch:
        monkeypatch.setattr(
            "replank.scheduling.notices.Notices._tell",
            lambda self, paths: self._loop.call_soon_threadsafe(self._told, frozenset()),
        )
    async with folder.watching(**watch):
        folder.write("2")
        assert (await folder.reloaded()).committed


async def test_a_watcher_that_is_stopped_reloads_no_more(folder):
    folder.write("1")
    async with folder.watching() as host:
        assert folder.watcher.watching
        await folder.watcher.stop()
        await folder.watcher.stop()
        folder.write("2")
        again = await host.watch("ledger")
        assert (await folder.reloaded()).committed
        assert folder.reloads_left() == []
        assert again.watching
    assert not again.watching
