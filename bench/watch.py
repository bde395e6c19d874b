"""How long from saving a file until the new code answers: `python -m bench.watch [--saves N]`.

Prints one JSON line. The caller asks every millisecond, so that is how exact it is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
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
    load_before = os.getloadavg()[0]
    found = sorted(asyncio.run(measure(parser.parse_args().saves)))
    row = {
        "case": "from saving to new code",
        "python": platform.python_version(),
        "saves": len(found),
        "load_1min": [round(load_before, 2), round(os.getloadavg()[0], 2)],
        "median_ms": round(statistics.median(found), 1),
        "p95_ms": round(found[max(0, int(len(found) * 0.95) - 1)], 1),
        "max_ms": round(found[-1], 1),
    }
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
