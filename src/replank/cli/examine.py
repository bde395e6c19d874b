"""Examinations of the environment and of the configuration."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import resource
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Final

from replank.cli.findings import Finding, Situation, fault, warning, well
from replank.code.probe import Probe
from replank.code.source import digest_of
from replank.control.guard import is_loopback
from replank.errors import ReplankError
from replank.isolation.nursery import Nursery

OLDEST: Final = (3, 11)
NEWEST_TESTED: Final = (3, 13)
_SPARE_FILES: Final = 64
_PACKAGES: Final = {
    "httptools": "pip install httptools: without it an HTTP call costs three times the CPU time",
    "prometheus_client": "pip install prometheus-client: without it /metrics does not answer",
}


def examine_python(_here: Situation) -> Iterator[Finding]:
    """Say whether the interpreter is one that Replank is tested with."""
    version = ".".join(map(str, sys.version_info[:3]))
    newest = ".".join(map(str, NEWEST_TESTED))
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        do = "use the ordinary build: reloads rely on the interpreter lock"
        yield fault("Python", f"{version} without the interpreter lock", do)
    elif sys.version_info[:2] > NEWEST_TESTED:
        do = f"use {newest}, or run the tests with yours"
        yield warning("Python", f"{version} is newer than what is tested", do)
    else:
        yield well("Python", version)


def examine_packages(here: Situation) -> Iterator[Finding]:
    """Say which packages that make a difference are missing."""
    wanted = dict(_PACKAGES)
    if here.config.telemetry.traces:
        wanted["opentelemetry"] = "pip install 'replank[otel]', or leave out [telemetry] traces"
    missing = {name: do for name, do in wanted.items() if importlib.util.find_spec(name) is None}
    for name, do in missing.items():
        yield warning("packages", f"{name} is missing", do)
    if not missing:
        yield well("packages", "all there")


def examine_modules(here: Situation) -> Iterator[Finding]:
    """Say whether the source of each module is there and can be read."""
    for name, module in here.config.modules.items():
        try:
            digest_of(Path(module.source))
        except ReplankError as error:
            do = error.do or "correct the path in the configuration"
            yield fault(f"module {name}", f"{module.source}: {error.what}", do)
        else:
            yield well(f"module {name}", module.source)


def examine_probe(here: Situation) -> Iterator[Finding]:
    """Say whether the child process that tries candidates starts."""
    if not here.config.reload.probe:
        do = "leave out [reload] probe: a candidate that crashes at import takes the host with it"
        yield warning("probe", "switched off", do)
        return
    began = perf_counter()
    try:
        asyncio.run(_start_probe())
    except ReplankError as error:
        yield fault("probe", error.found or error.what, error.do or "check the process limits")
    else:
        yield well("probe", f"a child process starts in {perf_counter() - began:.1f} s")


async def _start_probe() -> None:
    probe = Probe()
    try:
        await probe.start()
    finally:
        await probe.close()


def examine_isolation(here: Situation) -> Iterator[Finding]:
    """Say whether the processes of isolated modules start, and what a crash of one would cost."""
    isolated = {name: one for name, one in here.config.modules.items() if one.isolated}
    if not isolated:
        return
    began = perf_counter()
    try:
        asyncio.run(_start_worker())
    except ReplankError as error:
        yield fault("isolation", error.found or error.what, error.do or "check the process limits")
        return
    yield well("isolation", f"a process starts in {perf_counter() - began:.1f} s")
    for name, module in isolated.items():
        if module.persist != "interval":
            what = "its state is saved at a start, a commit and a stop: a crash loses what is newer"
            yield warning(f"isolation of {name}", what, 'say persist = "interval"')


async def _start_worker() -> None:
    nursery = Nursery()
    try:
        process = await nursery.worker()
        process.link.close()
        await process.ended
        process.close()
    finally:
        await nursery.close()


def examine_files(here: Situation) -> Iterator[Finding]:
    """Say whether the process may open as many files as there may be connections."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = here.config.http.max_connections + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        do = f"ulimit -n {wanted}, or lower [http] max_connections"
        found = f"{soft} may be open, {wanted} are needed for max_connections"
        yield warning("open files", found, do)
    else:
        yield well("open files", f"{soft} may be open")


def examine_http(here: Situation) -> Iterator[Finding]:
    """Say whether the address is free and who can listen in."""
    http = here.config.http
    if not http.enabled:
        yield well("HTTP", "switched off")
        return
    where = f"{http.host}:{http.port}"
    if here.runs is not None:
        yield well("HTTP", f"{where}: the host's")
    elif (reason := _cannot_bind(http.host, http.port)) is not None:
        yield fault("HTTP", f"{where}: {reason}", "choose another port: [http] port, or --port")
    else:
        yield well("HTTP", f"{where} is free")
    if http.certfile is None and not is_loopback(http.host):
        do = "name a certificate: [http] certfile, keyfile; or end TLS in front of it"
        yield warning("TLS", f"{http.host} is open to others and the token travels in clear", do)
    elif http.certfile is not None:
        yield from _examine_certificate(http.certfile, http.keyfile)


def _cannot_bind(host: str, port: int) -> str | None:
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, number) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _examine_certificate(certfile: str, keyfile: str | None) -> Iterator[Finding]:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certfile, keyfile)
    except OSError as error:
        found = f"{certfile}: {error.strerror or error}"
        yield fault("TLS", found, "correct [http] certfile and keyfile")
        return
    key = Path(keyfile or certfile)
    if key.stat().st_mode & 0o077 and key.stat().st_uid == os.getuid():
        yield warning("TLS", f"others may read the key {key}", f"chmod 600 {key}")
    else:
        yield well("TLS", certfile)


__all__ = [
    "examine_files",
    "examine_http",
    "examine_modules",
    "examine_packages",
    "examine_probe",
    "examine_python",
]
