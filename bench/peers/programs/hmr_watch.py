"""hmr's own watcher and reactive modules: https://pyth-on-line.promplate.dev/hmr"""

import asyncio
import sys
from importlib.metadata import version
from pathlib import Path

from reactivity.hmr.core import AsyncReloader, patch_meta_path
from timetable import Timetable, say

Path("entry.py").write_text("import shop\n")
patch_meta_path((str(Path.cwd()),), ())


async def sell():
    return await sys.modules["shop"].sell(1)


async def apply() -> None:
    """Nothing to do: it watches the files."""


async def main() -> None:
    reloader = AsyncReloader("entry.py", (".",))
    watching = asyncio.create_task(reloader.keep_watching_until_interrupt())
    while "shop" not in sys.modules:
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    files = [Path("rules.py"), Path("shop.py")]
    say(await Timetable(sell, apply, files).run(version=version("hmr")))
    reloader.stop_watching()
    watching.cancel()


asyncio.run(main())
