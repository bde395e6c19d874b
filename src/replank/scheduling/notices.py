"""What the operating system says of changed files, brought to the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from replank.settings import WatchConfig
from replank.threads import in_thread

_POLL_S: Final = 0.2

Told = Callable[[frozenset[Path]], None]


class Notices:
    """Watch folders, each in a thread of the watching library's, until closed.

    Args:
        flat: Folders of which only the files directly in them count.
        deep: Folders that count with everything below them.
        told: Called on the event loop with the paths that changed; with none when it is time to
            look although nothing was heard.
        config: How long to wait for more.
    """

    def __init__(
        self, flat: Iterable[Path], deep: Iterable[Path], told: Told, config: WatchConfig
    ) -> None:
        self._told = told
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        if config.polling:
            # The library's own polling compares whole seconds: the watcher's rescan does better.
            self._loop.call_later(_POLL_S, self._poll)
            return
        for folders, recursive in ((sorted(flat), False), (sorted(deep), True)):
            if folders:
                # Armed from here on, before the thread runs: no change is missed.
                notify = RustNotify([str(one) for one in folders], False, False, 0, recursive, True)
                name = "replank-watch-deep" if recursive else "replank-watch"
                thread = threading.Thread(target=self._run, args=(notify,), name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    async def close(self) -> None:
        """Watch no more; nothing is told afterwards."""
        self._stop.set()
        for thread in self._threads:
            await in_thread(thread.join)
        self._threads.clear()

    def _poll(self) -> None:
        if not self._stop.is_set():
            self._told(frozenset())
            self._loop.call_later(_POLL_S, self._poll)

    def _run(self, notify: RustNotify) -> None:
        config = self._config
        with notify:
            while not self._stop.is_set():
                try:
                    found = notify.watch(
                        round(config.settle_max_s * 1e3),
                        max(1, round(config.settle_s * 1e3)),
                        round(config.rescan_s * 1e3),
                        self._stop,
                    )
                except WatchfilesRustInternalError:
                    # A folder went away under it: look with one's own eyes from time to time.
                    self._stop.wait(config.rescan_s)
                    found = "timeout"
                if found == "stop":
                    return
                paths = frozenset(Path(path) for _, path in found) if type(found) is set else ()
                self._tell(frozenset(paths))

    def _tell(self, paths: frozenset[Path]) -> None:
        def tell() -> None:
            if not self._stop.is_set():
                self._told(paths)

        try:
            self._loop.call_soon_threadsafe(tell)
        except RuntimeError:  # the loop is closed: nobody is left to be told
            self._stop.set()


__all__ = ["Notices"]
