"""Reload 2,000 times under load, with every outcome: `python -m bench.soak --reloads 2000`.

Memory must be flat (the last quarter within 5 % of the second), and file descriptors, threads and
tasks must not grow. Prints one JSON line; ends with 1 when something grew or went wrong. What it
does not show: growth of the journal on the disk, which keeps as much history as is configured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path

SAMPLES_MIN = 12


def main() -> int:
    from tests.scenarios.soaking import Sample, soak

    from replank.config import Config, ReloadConfig

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reloads", type=int, default=2_000)
    parser.add_argument("--every", type=int, default=20, help="reloads between two samples")
    parser.add_argument("--no-probe", action="store_true", help="load without trying first")
    options = parser.parse_args()
    config = Config(reload=ReloadConfig(probe=not options.no_probe))
    # growth is told by quarters of the samples, so there must be a few in each
    every = max(1, min(options.every, options.reloads // SAMPLES_MIN))
    if options.reloads < SAMPLES_MIN:
        parser.error(f"--reloads must be at least {SAMPLES_MIN}: growth is told by quarters")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        soaked = asyncio.run(soak(Path(folder), options.reloads, every=every, config=config))
    second_on = soaked.samples[len(soaked.samples) // 4 :]
    spread = {
        name: sorted({getattr(one, name) for one in second_on})
        for name in ("descriptors", "threads", "tasks")
    }
    growth = {
        "resident": soaked.growth(lambda one: one.resident_bytes),
        "blocks": soaked.growth(lambda one: one.blocks),
    }
    last: Sample = soaked.samples[-1]
    good = (
        not soaked.wrong
        and all(abs(value) < 0.05 for value in growth.values())
        and all(len(values) == 1 for values in spread.values())
    )
    line = {
        "reloads": options.reloads,
        "outcomes": dict(soaked.outcomes),
        "answers": soaked.answers,
        "wrong": soaked.wrong,
        "growth_of_last_quarter_over_second": {k: round(v, 4) for k, v in growth.items()},
        "resident_mb": [round(one.resident_bytes / 1e6, 1) for one in soaked.samples[::25]],
        "resident_mb_last": round(last.resident_bytes / 1e6, 1),
        **spread,
        "seconds": round(time.perf_counter() - began, 1),
        "good": good,
    }
    print(json.dumps(line))
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
