"""`importlib.reload`, used module first: https://docs.python.org/3/library/importlib.html#importlib.reload"""

import asyncio
import importlib
import platform
from pathlib import Path

import rules
import shop
from timetable import Timetable, say


async def apply() -> None:
    importlib.reload(rules)
    importlib.reload(shop)


async def sell():
    return await shop.sell(1)


files = [Path("rules.py"), Path("shop.py")]
say(asyncio.run(Timetable(sell, apply, files).run(version=platform.python_version())))
