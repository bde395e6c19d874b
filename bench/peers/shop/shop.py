"""A shop with its state in the module, as a small program has it."""

import asyncio

import rules

VERSION = "1"
sold = {"count": 0}


async def sell(cents):
    version = VERSION
    sold["count"] += 1
    count = sold["count"]
    await asyncio.sleep(0.002)  # the bank answers
    rules.price(cents)
    return version, rules.VERSION, count
