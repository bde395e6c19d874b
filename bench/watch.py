"""How long from saving a file until the new code answers: `python -m bench.watch [--saves N]`."""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
from pathlib import Path
from time import perf_counter

from replank import Host
from replank.config import Config

SOURCE = """
from replank import Module

class Small(Module, version="{version}"):
    value: int = 0

    async def version(self) -> str:
        return "{version}"
"""
DEADLINE_S = 30.0


async def measure(saves: int) -> list[float]:
    """Return milliseconds of each save, as a caller in the same program sees them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.py"
        path.write_text(SOURCE.format(version="0"))
        found = []
        async with Host({"small": path}, data_dir=Path(folder) / "data", config=Config()) as host:
            await host.watch()
            for number in range(1, saves + 1):
                text = SOURCE.format(version=number)
                await asyncio.sleep(0.15)  # not in step with the watcher
                began = perf_counter()
                path.write_text(text)
                async with asyncio.timeout(DEADLINE_S):
                    while await host["small"].version() != str(number):  # noqa: ASYNC110 - a caller
                        await asyncio.sleep(0.001)
                found.append((perf_counter() - began) * 1e3)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--saves", type=int, default=40)
    found = sorted(asyncio.run(measure(parser.parse_args().saves)))
    most = found[int(len(found) * 0.95) - 1]
    print(
        f"{len(found)} saves, load {os.getloadavg()[0]:.1f}: median {statistics.median(found):.0f},"
        f" 95 % {most:.0f}, longest {found[-1]:.0f} ms"
    )


if __name__ == "__main__":
    main()
