"""Start-up time, memory and install size: `python -m bench.startup`.

Times fresh processes, in turns, so that a machine's load meets all alike: an empty interpreter,
`import replank`, the command line (`replank --version`), and a host with one small module from the
start of the process to its first answered call (its data directory new, and with one life behind
it). Install size: the bytes on the disk of Replank and of every package that it needs, compiled
files left out, as installed in this Python. One JSON line each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from time import perf_counter

import replank

MODULE = """
from replank import Module

class Small(Module, version="1"):
    hits: int = 0

    async def hit(self) -> int:
        self.hits += 1
        return self.hits
"""
MEMORY = """
def held():  # of this program; getrusage tells of what it was forked from, too
    try:
        lines = open("/proc/self/status").read().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

"""
FIRST_ANSWER = (
    MEMORY
    + """
import asyncio, sys
from replank import Host

async def main():
    async with Host({"small": sys.argv[1]}, data_dir=sys.argv[2]) as host:
        assert await host["small"].hit() >= 1
        print("answered", held(), flush=True)

asyncio.run(main())
"""
)
NOTHING = MEMORY + "print('answered', held(), flush=True)"
IMPORT = "import replank\n" + NOTHING
VERSION = (
    "import sys; from replank.cli.app import main; sys.argv = ['replank', '--version']; main()"
)
LIMIT_S = 60.0


def first_line(code: str, *arguments: str) -> tuple[float, int]:
    """Return milliseconds until a fresh process prints its first line, and what the line tells."""
    began = perf_counter()
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        taken = (perf_counter() - began) * 1e3
        process.wait(LIMIT_S)
    if process.returncode or not line:
        sys.exit(f"a fresh process failed: exit {process.returncode}")
    words = line.split()
    return taken, int(words[1]) if words[0] == "answered" else 0


def times(rounds: int) -> list[dict]:
    """Return a row for each kind of start."""
    seen: dict[str, list[tuple[float, int]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, old = folder / "small.py", folder / "old"
        source.write_text(MODULE)
        first_line(FIRST_ANSWER, str(source), str(old))  # also fills the caches of compiled files
        for turn in range(rounds):
            ways = {
                "an empty interpreter": (NOTHING,),
                "import replank": (IMPORT,),
                "replank --version": (VERSION,),
                "host to first answer, new": (FIRST_ANSWER, str(source), str(folder / f"{turn}")),
                "host to first answer, again": (FIRST_ANSWER, str(source), str(old)),
            }
            for way, command in ways.items():
                seen.setdefault(way, []).append(first_line(*command))
    return [
        {
            "case": way,
            "median_ms": round(statistics.median(ms for ms, _ in found), 1),
            "fastest_ms": round(min(ms for ms, _ in found), 1),
            "memory_mb": round(max(kb for _, kb in found) / 1e3, 1) or None,
        }
        for way, found in seen.items()
    ]


def needed(name: str, found: dict[str, metadata.Distribution] | None = None) -> dict:
    """Return the packages that one needs here, itself included, without its extras.

    Args:
        name: Of the package.
        found: Those already seen.
    """
    found = {} if found is None else found
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in found:
        return found
    try:
        found[key] = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return found  # for another system or Python
    for line in found[key].requires or ():
        if "extra ==" not in line:
            needed(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0], found)
    return found


def size(distribution: metadata.Distribution) -> int:
    """Return the bytes of a package's files, compiled ones left out."""
    return sum(
        path.stat().st_size
        for one in distribution.files or ()
        if one.suffix != ".pyc" and (path := Path(str(distribution.locate_file(one)))).is_file()
    )


def install_size() -> dict:
    """Return how many packages and bytes an installation is."""
    packages = needed("replank")
    own = Path(replank.__file__).parent
    sizes = {name: size(one) for name, one in packages.items()}
    # of this source: an editable installation lists a file or two only
    sizes["replank"] = sum(
        one.stat().st_size for one in own.rglob("*") if one.is_file() and one.suffix != ".pyc"
    )
    largest = sorted(sizes, key=lambda name: -sizes[name])[:4]
    return {
        "case": "install size",
        "packages": len(sizes),
        "total_mb": round(sum(sizes.values()) / 1e6, 2),
        "own_mb": round(sizes["replank"] / 1e6, 2),
        "largest": [f"{name} {sizes[name] / 1e6:.1f}" for name in largest],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    load_before = os.getloadavg()[0]
    for row in times(rounds):
        load = [round(load_before, 2), round(os.getloadavg()[0], 2)]
        facts = {"python": platform.python_version(), "rounds": rounds, "load_1min": load}
        print(json.dumps({**row, **facts}), flush=True)
    print(json.dumps(install_size()), flush=True)


if __name__ == "__main__":
    main()
