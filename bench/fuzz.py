"""Fuzz a running host over HTTP with schemathesis, against its own OpenAPI document.

    python -m bench.fuzz --examples 60

A host is started in a process of its own, asked by somebody with the token, and looked at
afterwards: no 5xx, every answer as the document says, no reload that was not asked for properly.
`schemathesis` is no part of the development environment (it is a pytest plugin and brings much with
it): `uv pip install --group fuzz`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from time import perf_counter

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

LEDGER = """
from replank import Module, Record, Table

class Account(Record):
    cents: int = 0

class Ledger(Module, version="1.0"):
    accounts: Table[str, Account]
    total: int = 0

    async def deposit(self, owner: str, cents: int = 1) -> int:
        self.total += cents
        return self.total
"""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
LEFT_OUT = {"stop"}  # it would end the host; tests/unit/control has it


def start(folder: Path) -> tuple[subprocess.Popen[str], dict[str, object]]:
    (folder / "ledger.py").write_text(LEDGER)
    (folder / "replank.toml").write_text('[modules]\nledger = "ledger.py"\n[http]\nport = 0\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "replank", "run", "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, json.loads(process.stdout.readline())


def ask(url: str, token: str) -> dict[str, object]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def attack(
    operation: object, token: str, examples: int, number: int, counts: dict[int, int]
) -> None:
    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def one(case: object) -> None:
        if operation.path == "/control/events":  # or it would never end
            case.query = {**(case.query or {}), "follow": "0"}
        answer = case.call(headers={"Authorization": f"Bearer {token}"}, timeout=30)
        counts[answer.status_code] = counts.get(answer.status_code, 0) + 1
        case.validate_response(answer, checks=CHECKS)

    one()


def describe(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {str(error)[:600]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=60, help="requests to each route")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    counts: dict[int, int] = {}
    failed = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process, started = start(folder)
        try:
            token = (folder / ".replank" / "token").read_text().strip()
            url = str(started["http"])
            document = ask(f"{url}/control/openapi.json", token)
            schema = schemathesis.openapi.from_dict(document)
            schema.config.update(base_url=url)
            began = perf_counter()
            for result in schema.get_all_operations():
                operation = result.ok()
                if operation.definition.raw["operationId"] in LEFT_OUT:
                    continue
                try:
                    attack(operation, token, arguments.examples, arguments.seed, counts)
                except Exception as error:  # the next route is attacked all the same
                    failed.append(f"{operation.method} {operation.path}: {describe(error)}")
            seconds = perf_counter() - began
            serves = ask(f"{url}/control/status", token)["modules"][0]
            reloads = ask(f"{url}/control/history?limit=1000", token)
        finally:
            process.terminate()
            process.wait(30)
    for text in failed:
        print(text, file=sys.stderr)
    found = {
        "requests": sum(counts.values()),
        "seconds": round(seconds, 1),
        "statuses": dict(sorted(counts.items())),
        "reloads": len(reloads) - 1,
        "generation": serves["generation"],
        "failed": len(failed),
    }
    print(json.dumps(found))
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
