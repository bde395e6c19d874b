"""The watcher: reloads what was saved, by content, and says what it does and why it does nothing.

What counts is the digest of what lies on the disk against the digest of what serves. Notices of the
system only say when to look: one that is missed, doubled or early changes nothing but the time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from replank.errors import ReplankError
from replank.instrumentation.events import Bus, SourcesNoticed, Warned
from replank.scheduling.batching import TiedTo, tied_sets
from replank.scheduling.eyes import (
    Seen,
    concerns,
    glance_at,
    look_at,
    repository_is_busy,
    with_real,
)
from replank.scheduling.notices import Notices
from replank.scheduling.ticket import Ticket
from replank.settings import WatchConfig
from replank.threads import in_thread
from replank.traffic.calls import outside_chain

_FILES_SHOWN: Final = 5
_GIT_LOOKS_MAX: Final = 300
_GIT_PAUSE_S: Final = 0.05


class _Tried(NamedTuple):
    digest: str
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Watched:
    """What the watcher must know of the host."""

    sources: Mapping[str, Path]
    """By module, its file or package folder."""
    serving: Callable[[str], str]
    """Returns the digest of what serves."""
    reload: Callable[[list[str]], Ticket]
    tied_to: TiedTo
    others: Mapping[Path, Callable[[], Awaitable[None]]]
    """More files, with what to do when one of them changes."""


class Watcher:
    """Watch the sources of modules until stopped.

    Args:
        watched: The modules.
        bus: Is told what is done, and why nothing is done.
        config: How long to wait for more changes.
    """

    def __init__(self, watched: Watched, bus: Bus, config: WatchConfig) -> None:
        self._watched = watched
        self._bus = bus
        self._config = config
        self._seen: dict[str, Seen] = {}
        self._tried: dict[str, _Tried] = {}
        self._said: dict[str, str] = {}
        self._paths: set[Path] = set()
        self._all = True
        self._news = asyncio.Event()
        self._notices: Notices | None = None
        self._roots: object = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to watch; sources that differ from what serves are taken up at once."""
        await self._arm()
        await self._look_until_armed(frozenset(), everything=True)
        self._task = asyncio.create_task(
            self._run(), name="watch the sources", context=outside_chain()
        )

    async def stop(self) -> None:
        """Watch no more; reloads that were asked for go on. Stopping twice does no harm."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._notices is not None:
            await self._notices.close()
            self._notices = None

    def reconfigure(self, config: WatchConfig, sources: Mapping[str, Path]) -> None:
        """Go on with other settings and other places of sources.

        Args:
            config: How long to wait for more changes.
            sources: By module; modules that are not watched are passed over.
        """
        moved = {name: sources[name] for name in self._watched.sources if name in sources}
        self._watched = replace(self._watched, sources={**self._watched.sources, **moved})
        if config != self._config:
            self._config, self._roots = config, None
        self._told(frozenset())

    @property
    def watching(self) -> bool:
        """Whether it watches."""
        return self._task is not None and not self._task.done()

    # -- notices ------------------------------------------------------------------------------

    def _told(self, paths: frozenset[Path]) -> None:
        self._paths |= paths
        self._all = self._all or not paths
        self._news.set()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            try:
                await self._git_has_ended()
                self._news.clear()
                paths, self._paths = frozenset(self._paths), set()
                everything, self._all = self._all, False
                everything = await self._arm() or everything
                await self._look_until_armed(paths, everything=everything)
            except Exception as error:  # whatever it is, the next save must be seen
                self._bus.publish(Warned(text=f"watching failed: {type(error).__name__}: {error}"))

    async def _git_has_ended(self) -> None:
        """Wait while git writes: half of a checkout is no version of anything."""
        folders = {one.parent for one in self._watched.sources.values()}
        for _ in range(_GIT_LOOKS_MAX):
            if not await in_thread(lambda: any(map(repository_is_busy, folders))):
                return
            await asyncio.sleep(_GIT_PAUSE_S)

    async def _arm(self) -> bool:
        """Have the system tell of the folders that exist now; say whether they have changed."""
        flat, deep, marks = await in_thread(self._folders)
        if marks == self._roots:
            return False
        if self._notices is not None:
            await self._notices.close()
        self._notices = Notices(flat, deep, self._told, self._config)
        self._roots = marks
        return True

    def _folders(self) -> tuple[set[Path], set[Path], object]:
        flat: set[Path] = set()
        deep: set[Path] = set()
        files = {one for seen in self._seen.values() for one in seen.files}
        for path in {*self._watched.sources.values(), *self._watched.others, *files}:
            for real in with_real(path):
                flat.add(real.parent)
                if real.is_dir():
                    deep.add(real)
        flat = {one for one in flat if one.is_dir()}
        # A folder that was replaced by another of its name is not the one that is watched.
        return flat, deep, {(one, one.stat().st_ino) for one in flat | deep}

    # -- what to do ---------------------------------------------------------------------------

    async def _look_until_armed(self, paths: frozenset[Path], *, everything: bool) -> None:
        await self._look(paths, everything=everything)
        while await self._arm():  # a helper was found in a folder that was not watched
            await self._look(frozenset(), everything=True)

    async def _look(self, paths: frozenset[Path], *, everything: bool) -> None:
        """Compare what lies on the disk with what serves, and reload what differs."""
        for path, act in self._watched.others.items():
            if any(one in with_real(path) for one in paths):
                await act()
        touched = {name for name in self._watched.sources if self._is_touched(name, paths)}
        # A file that appears beside a module may be the helper that it lacked.
        near = touched | {name for name in self._watched.sources if self._is_near(name, paths)}
        names = sorted(self._watched.sources if everything else near)
        for name in names:
            source, seen = self._watched.sources[name], self._seen.get(name)
            if seen is None or name in near or not await in_thread(glance_at, seen):
                self._seen[name] = await in_thread(look_at, source)
        news = [name for name in names if self._is_news(name)]
        if not news:
            self._say_why_nothing(touched, paths)
            return
        # Those that were tried in vain before go along when one that they are tied to is mended.
        differing = [name for name in sorted(self._watched.sources) if self._differs(name)]
        for together in tied_sets(differing, self._tied_to):
            if set(together) & set(news):
                self._reload(together, paths)

    def _is_touched(self, name: str, paths: Iterable[Path]) -> bool:
        source = self._watched.sources[name]
        seen = self._seen.get(name)
        files = {real for one in {source, *(seen.files if seen else ())} for real in with_real(one)}
        return any(concerns(path, files) for path in paths)

    def _tied_to(self, names: frozenset[str]) -> frozenset[str]:
        """Return modules with those tied to them, by use or by a helper that they share."""
        files = {one for name in names if name in self._seen for one in self._seen[name].files}
        sharing = {name for name, seen in self._seen.items() if seen.files & files}
        return self._watched.tied_to(names) | sharing

    def _is_near(self, name: str, paths: Iterable[Path]) -> bool:
        folders = {real.parent for real in with_real(self._watched.sources[name])}
        return any(path.suffix in ("", ".py") and path.parent in folders for path in paths)

    def _differs(self, name: str) -> bool:
        seen = self._seen.get(name)
        return seen is not None and seen.digest not in ("", self._watched.serving(name))

    def _is_news(self, name: str) -> bool:
        tried = self._tried.get(name)
        if not self._differs(name):
            return False
        return tried is None or tried.digest != self._seen[name].digest

    def _reload(self, names: list[str], paths: frozenset[Path]) -> None:
        files = [path for path in sorted(paths) if any(self._is_touched(n, (path,)) for n in names)]
        known = [self._watched.sources[name] for name in names]
        self._notice(files or known, modules=tuple(names))
        try:
            ticket = self._watched.reload(names)
        except ReplankError as error:
            self._bus.publish(Warned(text=f"{', '.join(names)} cannot be reloaded: {error}"))
            return
        for name in names:
            self._said.pop(name, None)
            self._tried[name] = _Tried(self._seen[name].digest, ticket)

    def _say_why_nothing(self, touched: set[str], paths: frozenset[Path]) -> None:
        """Tell about each module whose files changed why nothing is done."""
        for name, seen in self._seen.items():
            why = self._why_nothing(name, seen)
            found_by_rescan = bool(seen.problem) and self._said.get(name) != why
            if why and (name in touched or found_by_rescan):
                files = [path for path in sorted(paths) if self._is_touched(name, (path,))]
                self._notice(files or [self._watched.sources[name]], detail=f"{name}: {why}")
            self._said[name] = why

    def _why_nothing(self, name: str, seen: Seen) -> str:
        if seen.problem:
            return f"{seen.problem}; what serves goes on"
        if not self._differs(name):
            return "no change in what is loaded"
        tried = self._tried.get(name)
        if tried is None or not tried.ticket.done:
            return ""  # it is on its way
        return f"this version was tried before; change it, or: replank reload {name}"

    def _notice(
        self, files: list[Path], *, modules: tuple[str, ...] = (), detail: str = ""
    ) -> None:
        shown = tuple(path.name for path in files[:_FILES_SHOWN])
        self._bus.publish(
            SourcesNoticed(files=shown, total=len(files), modules=modules, detail=detail)
        )


__all__ = ["Watched", "Watcher"]
