"""Replank: both modules in one transaction."""

import asyncio
from importlib.metadata import version
from pathlib import Path

from timetable import Timetable, say

from replank import Host


async def main() -> None:
    files = [Path("rules.py").absolute(), Path("shop.py").absolute()]
    modules = {path.stem: path for path in files}
    async with Host(modules, data_dir=Path("data")) as host:

        async def apply() -> None:
            report = await host.reload(modules)
            if report.error is not None:
                raise RuntimeError(report.error.message)

        async def sell():
            return tuple(await host["shop"].sell(1))

        say(await Timetable(sell, apply, files).run(version=version("replank")))


asyncio.run(main())
