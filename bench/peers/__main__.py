"""Compare Replank with its peers: `python -m bench.peers`.

Each peer runs the same small shop on the same timetable (see `timetable.py`): 400 sales a second,
a good change of two files, then a change that does not import. Each runs in a virtual environment
of its own, made here on first use; one that cannot be installed is skipped with the reason. Every
program says in its first lines whose documentation it follows.

One JSON line a peer, then the table as it stands in `docs/benchmarks.md`. Not shown: changes of
the state's shape (nobody else migrates it but Erlang, by hand), several machines, other loads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.peers.columns import table
from bench.pythons import CACHE, MINORS, find

HERE = Path(__file__).parent
RUN_LIMIT_S = 90


@dataclass(frozen=True)
class Peer:
    """One way to get new code into a running program."""

    name: str
    program: str
    files: str = "shop/*.py"
    packages: tuple[str, ...] = ()
    argument: str = ""
    python: tuple[int, int] = (3, 11)
    tool: str = ""


PEERS = (
    Peer("Replank", "replank_host.py", files="shop/replank/*.py"),
    Peer("importlib.reload", "importlib_reload.py"),
    Peer("jurigged", "jurigged_watch.py", packages=("jurigged",)),
    Peer("IPython autoreload", "ipython_autoreload.py", packages=("ipython",)),
    Peer("hmr", "hmr_watch.py", packages=("hmr",), python=(3, 12)),
    Peer(
        "discord.py reload_extension",
        "discord_extension.py",
        packages=("discord.py", "audioop-lts; python_version >= '3.13'"),
    ),
    Peer("uvicorn --workers 2, HUP", "server.py", packages=("uvicorn",), argument="uvicorn"),
    Peer(
        "gunicorn -w 2, HUP",
        "server.py",
        packages=("gunicorn", "uvicorn", "uvicorn-worker"),
        argument="gunicorn",
    ),
    Peer("granian --workers 2, HUP", "server.py", packages=("granian",), argument="granian"),
    Peer("Erlang/OTP", "erlang_otp.escript", files="shop/erlang/*.erl", tool="escript"),
)


class Skipped(Exception):
    """A peer that cannot run here, and why."""


def base(peer: Peer) -> str:
    """Return the Python that a peer's environment is made of: this one, or a newer one.

    Args:
        peer: Which.

    Raises:
        Skipped: This one is too old, and no newer one is here.
    """
    if sys.version_info[:2] >= peer.python:
        return sys.executable
    for minor in range(peer.python[1], MINORS.stop):
        found = find(f"python3.{minor}")
        if found is not None:
            return found
    wanted = ".".join(map(str, peer.python))
    raise Skipped(f"needs Python {wanted}, and neither that nor a newer one is here")


def version_of(python: str) -> str:
    """Return an interpreter's version."""
    code = "import platform; print(platform.python_version())"
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def interpreter(peer: Peer) -> str:
    """Return the Python that the peer runs in; makes its environment when it is missing."""
    first = base(peer)
    if not peer.packages:
        return first
    folder = CACHE / f"{peer.packages[0].split(';')[0]}-{version_of(first)}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([first, "-m", "venv", str(folder)], check=True)
        done = subprocess.run(
            [str(python), "-m", "pip", "install", "-q", *peer.packages],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Skipped(f"cannot be installed: {done.stderr.strip().splitlines()[-1][:120]}")
        (folder / "complete").touch()
    return str(python)


def measure(peer: Peer) -> dict[str, object]:
    """Run one peer in a folder of its own and return its row."""
    if peer.tool and shutil.which(peer.tool) is None:
        raise Skipped(f"{peer.tool} is not installed")
    command = [peer.tool] if peer.tool else [interpreter(peer)]
    with tempfile.TemporaryDirectory() as folder:
        for path in (*HERE.glob(peer.files), HERE / "timetable.py"):
            shutil.copy(path, folder)
        program = Path(shutil.copy(HERE / "programs" / peer.program, folder))
        load = os.getloadavg()[0]
        done = subprocess.run(
            [*command, program.name, *filter(None, [peer.argument])],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=RUN_LIMIT_S,
            check=False,
        )
    rows = [line[4:] for line in done.stdout.splitlines() if line.startswith("ROW ")]
    if not rows:
        raise Skipped(f"did not run: {(done.stderr or done.stdout).strip()[-160:]}")
    facts: dict[str, object] = {"peer": peer.name, "load_1min": round(load, 2)}
    if base(peer) != sys.executable:
        facts["on_python"] = version_of(base(peer))
    return {**facts, **json.loads(rows[-1])}


def main() -> None:
    """Measure every peer, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peers", nargs="*", help="parts of names; all when none is given")
    wanted = [one.lower() for one in parser.parse_args().peers]
    rows = []
    for peer in PEERS:
        if wanted and not any(one in peer.name.lower() for one in wanted):
            continue
        try:
            rows.append(measure(peer))
        except (Skipped, subprocess.SubprocessError, OSError) as error:
            print(json.dumps({"peer": peer.name, "skipped": str(error)}), flush=True)
        else:
            print(json.dumps(rows[-1]), flush=True)
    print(
        f"\n{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores\n"
    )
    print(table(rows))


if __name__ == "__main__":
    main()
