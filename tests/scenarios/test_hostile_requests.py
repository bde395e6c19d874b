"""A thousand requests that mean harm, against a real host: no 5xx, no reload, nothing told.

They are made from the host's own OpenAPI document, so that a new route is attacked without being
named here. `bench/fuzz.py` does the same for longer, with schemathesis.
"""

import asyncio
import random

import msgspec
import pytest

from replank import Host
from replank.config import Config, HttpConfig, ReloadConfig
from replank.control.server import ControlServer
from tests.unit.control.conftest import bearer, exchange, request, tcp

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
REQUESTS = 1_000
ODD = [
    *(None, True, -1, 0, 2**70, 1e308, "", "\x00", "../../etc/passwd", "/etc/passwd", "é\u202e"),
    *([], {}, [[]], {"": {}}, "A" * 3_000, "ledger", "*", "__class__", "%00", "${7*7}", "' OR 1=1"),
]
PATHS = [
    *(
        "/",
        "//",
        "/control",
        "/control/",
        "/control/../control/reload",
        "/control/%2e%2e/%2e%2e/etc",
    ),
    *("/modules/", "/modules/ledger", "/modules/ledger/__class__", "/modules/ledger/deposit/x"),
    *("/modules/../control/stop", "/modules/%2e%2e/control/stop", "/metrics/../control/status"),
    *(
        "/modules/ledger/_private",
        "/modules/ledger/on_start",
        "/modules//deposit",
        "/.replank/token",
    ),
    *(
        "/modules/ledger/messages/__init__",
        "/control/status%00",
        "/control/status;x",
        "/CONTROL/STATUS",
    ),
]


@pytest.fixture
async def world(tmp_path):
    source = tmp_path / "ledger.py"
    source.write_text(LEDGER)
    config = Config(
        http=HttpConfig(port=0, max_body_bytes=10_000), reload=ReloadConfig(probe=False)
    )
    host = Host({"ledger": source}, data_dir=tmp_path / "secret-data", config=config)
    async with host, ControlServer(host, host.config) as server:
        await host["ledger"].deposit("ada", 5)
        yield host, server, (tmp_path,)


class Attacker:
    """Makes requests from an OpenAPI document, by one seed."""

    def __init__(self, document, token, seed):
        self.chance = random.Random(seed)
        self.token = token
        self.document = document
        self.operations = [
            (path, method.upper(), operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]

    def value(self, schema, depth=0):
        """Return a value that fits a schema, nearly fits it, or does not."""
        chance = self.chance
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            schema = self.document["components"]["schemas"][name]
        if "anyOf" in schema:
            schema = chance.choice(schema["anyOf"])
        if depth > 4 or chance.random() < 0.3:
            return chance.choice(ODD)
        if schema.get("type") == "object":
            names = [name for name in schema.get("properties", {}) if chance.random() < 0.8]
            found = {name: self.value(schema["properties"][name], depth + 1) for name in names}
            if chance.random() < 0.3:
                found[str(chance.choice(ODD))] = chance.choice(ODD)
            return found
        if schema.get("type") == "array":
            items = schema.get("items", {})
            return [self.value(items, depth + 1) for _ in range(chance.randint(0, 3))]
        return chance.choice([*ODD, chance.randint(-5, 5)])

    def body(self, operation):
        content = operation.get("requestBody", {}).get("content", {})
        if not content:
            return b"" if self.chance.random() < 0.8 else b"{}"
        body = msgspec.json.encode(self.value(content["application/json"]["schema"]))
        spoilt = [
            body[: len(body) // 2],
            body + b"}",
            b"[" * self.chance.randint(1, 5_000),
            b'{"a":"' + b"x" * 20_000 + b'"}',  # longer than is taken
            self.chance.randbytes(self.chance.randint(1, 200)),
        ]
        return self.chance.choice([*spoilt, *[body] * 5])

    def target(self, path, operation):
        if self.chance.random() < 0.15:
            return self.chance.choice(PATHS)
        for name in ("module", "method"):
            good = {"module": "ledger", "method": "deposit"}[name]
            odd = self.chance.choice(["nope", "..", "%2e%2e", "%00", "__init__", "a" * 500])
            path = path.replace(f"{{{name}}}", good if self.chance.random() < 0.5 else odd)
        query = [
            f"{one['name']}={self.chance.choice(['', '0', '-1', 'x', '%00', '%ff', '9' * 30, 'ledger', '../..'])}"
            for one in operation.get("parameters", ())
            if one["in"] == "query" and self.chance.random() < 0.6
        ]
        if "/events" in path:
            query.append("follow=0")  # or it would never end
        return path + ("?" + "&".join(query) if query else "")

    def stranger(self):
        """A request by somebody who must not get in: no token, a wrong one, a foreign page."""
        path, method, operation = self.chance.choice(self.operations)
        headers = {"Content-Type": "application/json"}
        host = "localhost"
        trick = self.chance.randint(0, 6)
        if trick == 0:
            host = self.chance.choice(
                ["evil.example", "localhost.evil.example", "", "localhost:1@evil"]
            )
            headers["Authorization"] = f"Bearer {self.token}"
        elif trick == 1:
            headers["Origin"] = self.chance.choice(
                ["http://evil.example", "null", "https://localhost.evil"]
            )
            headers["Authorization"] = f"Bearer {self.token}"
        elif trick == 2:
            headers["Sec-Fetch-Site"] = "cross-site"
            headers["Authorization"] = f"Bearer {self.token}"
        elif trick == 3:
            wrong = self.chance.choice(
                [self.token[:-1], self.token + "x", self.token.lower(), "", "x" * 5_000]
            )
            headers["Authorization"] = f"Bearer {wrong}"
        elif trick == 4:
            headers["Authorization"] = f"Basic {self.token}"
        elif trick == 5:
            headers["Authorization"] = "Bearer " + self.token[::-1]
            headers["X-Forwarded-For"] = "127.0.0.1"
        target = self.target(path, operation)
        if trick > 2 and not target.startswith("/control/"):
            target = "/control/reload"  # on loopback the other doors are open
        body = self.body(operation)
        if self.chance.random() < 0.2:
            body = {"modules": ["ledger"]}
        return request(method, target, body, headers, host)

    def insider(self):
        """A request with the token that is wrong in another way; it never names what is there."""
        path, method, operation = self.chance.choice(self.operations)
        while path == "/control/stop":
            path, method, operation = self.chance.choice(self.operations)
        body = self.body(operation)
        if path in {"/control/reload", "/control/rollback"}:
            body = body.replace(b"ledger", b"legder")
        headers = {"Authorization": f"Bearer {self.token}"}
        return request(method, self.target(path, operation), body, headers)


async def attack(server, requests):
    """Send each request on a connection of its own, some at a time; return what was answered."""
    limit = asyncio.Semaphore(20)

    async def one(raw):
        async with limit, tcp(server) as (reader, writer):
            try:
                async with asyncio.timeout(20):
                    return raw, await exchange(reader, writer, raw)
            except (asyncio.IncompleteReadError, ConnectionError):
                return raw, None  # closed without an answer

    return await asyncio.gather(*map(one, requests))


def told(answer):
    head = "".join(f"{name}: {value}\n" for name, value in answer.headers.items())
    return head.encode() + answer.body


async def test_strangers_get_a_clear_4xx_and_learn_nothing(world):
    host, server, (folder,) = world
    token = bearer(server)["Authorization"].split()[1]
    async with tcp(server) as (reader, writer):
        raw = request("GET", "/control/openapi.json", headers=bearer(server))
        document = (await exchange(reader, writer, raw)).json
    attacker = Attacker(document, token, seed=5)
    before = len(list(host.recent.after(0)))
    answers = await attack(server, [attacker.stranger() for _ in range(REQUESTS * 7 // 10)])
    answered = [(raw, answer) for raw, answer in answers if answer is not None]
    assert len(answered) > len(answers) * 0.9
    for raw, answer in answered:
        assert 400 <= answer.status < 500, (raw[:300], answer.status, answer.body)
        text = told(answer)
        for secret in (
            str(folder).encode(),
            token.encode(),
            b"Traceback",
            b'File "',
            b"site-packages",
        ):
            assert secret not in text, (raw[:300], answer.body)
    assert {answer.status for _, answer in answered} >= {401, 403}
    assert len(list(host.recent.after(0))) == before  # nothing began that would be an event
    assert len(await host.history()) == 1  # the start
    assert host.status().modules[0].generation == 1
    assert await host["ledger"].deposit("ada", 0) == 5


async def test_whoever_has_the_token_gets_no_5xx_and_reloads_only_what_is_there(world):
    host, server, _ = world
    token = bearer(server)["Authorization"].split()[1]
    async with tcp(server) as (reader, writer):
        raw = request("GET", "/control/openapi.json", headers=bearer(server))
        document = (await exchange(reader, writer, raw)).json
    attacker = Attacker(document, token, seed=6)
    answers = await attack(server, [attacker.insider() for _ in range(REQUESTS * 3 // 10)])
    for raw, answer in answers:
        assert answer is None or answer.status < 500, (raw[:400], answer.status, answer.body)
        if answer is not None and answer.status >= 400 and answer.body:
            assert answer.json["error"]
            assert token.encode() not in told(answer)
    assert len(await host.history()) == 1
    assert host.status().modules[0].generation == 1
