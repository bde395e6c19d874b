"""The shop as an extension of a discord.py bot."""

import asyncio

import rules
from discord.ext import commands

VERSION = "1"


class Shop(commands.Cog):
    def __init__(self):
        self.count = 0

    async def sell(self, cents):
        version = VERSION
        self.count += 1
        count = self.count
        await asyncio.sleep(0.002)  # the bank answers
        rules.price(cents)
        return version, rules.VERSION, count


async def setup(bot):
    await bot.add_cog(Shop())
