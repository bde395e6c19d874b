"""jurigged's own watcher: https://github.com/breuleux/jurigged#readme

It looks at functions; a file that an editor renames into place it did not see (0.6.1, Linux), so
its files are written in place.
"""

import asyncio
from importlib.metadata import version
from pathlib import Path

import jurigged

jurigged.watch(str(Path.cwd() / "*.py"), logger=lambda event: None)

import shop  # noqa: E402
from timetable import Timetable, say  # noqa: E402


async def apply() -> None:
    """Nothing to do: it watches the files."""


async def sell():
    return await shop.sell(1)


files = [Path("rules.py"), Path("shop.py")]
say(asyncio.run(Timetable(sell, apply, files, in_place=True).run(version=version("jurigged"))))
