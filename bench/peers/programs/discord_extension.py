"""`Bot.reload_extension`: https://discordpy.readthedocs.io/en/stable/ext/commands/extensions.html

No connection is made: only the reloading of an extension is looked at. What the extension imports
is not reloaded with it unless it lies in its package, as the documentation says.
"""

import asyncio
from importlib.metadata import version
from pathlib import Path

import discord
from discord.ext import commands
from timetable import Timetable, say


async def main() -> None:
    bot = commands.Bot(command_prefix="!", intents=discord.Intents.none())
    await bot.load_extension("cog")

    async def apply() -> None:
        await bot.reload_extension("cog")

    async def sell():
        return await bot.get_cog("Shop").sell(1)

    files = [Path("rules.py"), Path("cog.py")]
    say(await Timetable(sell, apply, files).run(version=version("discord.py")))


asyncio.run(main())
