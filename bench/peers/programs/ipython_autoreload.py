"""IPython's `%autoreload 2`: https://ipython.readthedocs.io/en/stable/config/extensions/autoreload.html

It looks at the files before each cell; here `apply` is the next cell.
"""

import asyncio
from importlib.metadata import version
from pathlib import Path

import shop
from IPython.extensions.autoreload import ModuleReloader
from timetable import Timetable, say

reloader = ModuleReloader()
reloader.check(check_all=True)


async def apply() -> None:
    reloader.check(check_all=True)


async def sell():
    return await shop.sell(1)


files = [Path("rules.py"), Path("shop.py")]
say(asyncio.run(Timetable(sell, apply, files).run(version=version("ipython"))))
