"""Edits as people and agents make them: bad ones and where they are caught, and good ones.

An edit is a list of replacements in the shop's source; what it makes of it is the new version.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.corpus.sources import SHOP

PAY = "    async def pay(self, owner: str, cents: int = 1) -> int:\n"
PLACE = "    async def place(self, order: Order, size: Size = Size.SMALL) -> int:\n"
BALANCE = "    @query\n    async def balance(self, owner: str) -> int:\n"
UNUSED = "    async def unused(self) -> None:\n        return None\n"
HEAD = 'class Shop(Module, version="1.0", schema=1):\n'
HEAD_2 = 'class Shop(Module, version="2.0", schema=2):\n'
STEPS = "    migrations = []\n"


@dataclass(frozen=True)
class Edit:
    """One edit of the shop's source."""

    kind: str
    name: str
    changes: tuple[tuple[str, str], ...]
    phase: str = ""
    """Where a bad one is caught; empty for a good one."""
    error: str = ""
    outcome: str = "rejected"

    @property
    def source(self) -> str:
        """The new version."""
        text = SHOP
        for old, new in self.changes:
            assert old in text, f"{self.name}: {old!r} is not in the source"
            text = text.replace(old, new)
        return text


def contract(name: str, *changes: tuple[str, str]) -> Edit:
    return Edit("contract", name, changes, "prepare", "ContractError")


def state(
    name: str, *changes: tuple[str, str], phase: str = "prepare", error: str = "SchemaError"
) -> Edit:
    return Edit("state", name, changes, phase, error)


def behaviour(
    name: str,
    *changes: tuple[str, str],
    phase: str = "verify",
    error: str = "CheckError",
    outcome: str = "rejected",
) -> Edit:
    return Edit("behaviour", name, changes, phase, error, outcome)


def late(kind: str, name: str, *changes: tuple[str, str]) -> Edit:
    """Make an edit that nothing can find before it serves: probation does, and goes back."""
    return Edit(kind, name, changes, "probation", "tripped", outcome="rolled_back")


def at_import(name: str, code: str) -> Edit:
    changes = (('"""A shop."""\n', f'"""A shop."""\n{code}\n'),)
    return Edit("import", name, changes, "prepare", "SourceError")


def shape(name: str, *changes: tuple[str, str], error: str = "DefinitionError") -> Edit:
    return Edit("shape", name, changes, "prepare", error)


def migrated(steps: str, *changes: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return ((HEAD, HEAD_2), (STEPS, f"    migrations = [step(1, 2, {steps})]\n"), *changes)


def method(text: str) -> tuple[str, str]:
    """Add a method."""
    return (UNUSED, f"{UNUSED}\n    {text}\n")


def paying(code: str) -> tuple[str, str]:
    """Do something more in a call."""
    return (PAY, f"{PAY}        {code}\n")


def kept(code: str) -> tuple[str, str]:
    """Have something to keep; the same object is not counted twice, so each call makes its own."""
    return ('"""A shop."""\n', f'"""A shop."""\nKEPT_MORE = "x" * 2_000\n{code}\n')


BAD = (
    contract("removes a call", (BALANCE + "        return self.accounts[owner].cents\n", "")),
    contract("renames a call", ("def pay(", "def pay_in(")),
    contract("makes a call private", ("def balance(", "def _balance(")),
    contract("adds a required parameter", (PAY, PAY.replace("cents: int = 1", "cents: int = 1, *, memo: str"))),
    contract("drops a parameter", (PAY, PAY.replace(", cents: int = 1", "")), ("+= cents", "+= 1")),
    contract("renames a parameter", (PAY, PAY.replace("cents:", "amount:")), ("+= cents", "+= amount")),
    contract("renames the first parameter", (PAY, PAY.replace("owner:", "name:")), ("        account = self.accounts.get(owner)\n", "        owner = name\n        account = self.accounts.get(owner)\n")),
    contract("swaps two parameters", (PAY, "    async def pay(self, cents: int, owner: str) -> int:\n")),
    contract("inserts a parameter before another", (PAY, PAY.replace("cents:", "memo: str = '', cents:"))),
    contract("makes a parameter keyword-only", (PAY, PAY.replace("cents:", "*, cents:"))),
    contract("makes a parameter positional-only", (PAY, PAY.replace("owner: str,", "owner: str, /,"))),
    contract("takes a default away", (PAY, PAY.replace(" = 1", ""))),
    contract("narrows a parameter to literals", (PAY, PAY.replace("cents: int", "cents: Literal[1, 2, 5]"))),
    contract("changes a parameter's type", (PAY, PAY.replace("owner: str", "owner: int"))),
    contract("may answer nothing", (BALANCE, BALANCE.replace("-> int", "-> Optional[int]"))),
    contract("answers with another type", (BALANCE, BALANCE.replace("-> int", "-> str"))),
    contract("turns an answer into a stream", ("        return Receipt(item)\n", "        yield Receipt(item)\n"), ("-> Receipt:", "-> AsyncIterator[Receipt]:")),
    contract("writes in what was a query", (BALANCE, BALANCE.replace("    @query\n", ""))),
    contract("wants more of a record", ("    count: int = 1\n", "    count: int = 1\n    address: str = ''\n"), ("    item: str\n    count", "    item: int\n    count")),
    contract("drops a field of a record it takes", ("    count: int = 1\n", "")),
    contract("drops a field of a record it answers with", ("    item: str\n    cents: int = 0\n\n\nclass Account", "    item: str\n\n\nclass Account")),
    contract("removes a member of an enum it takes", ('    LARGE = "l"\n', "")),
    state("renames a field", ("orders", "placed")),
    state("changes a field's type", ("orders: int = 0", "orders: str = ''")),
    state("removes a field", ("    notes: list[str] = []\n", ""), ("self.notes.clear()", "pass")),
    state("narrows the items of a list", ("notes: list[str]", "notes: list[int]")),
    state("renames a field of a record", ("    owner: str\n    cents: int = 0\n", "    name: str\n    cents: int = 0\n")),
    state("adds a field without a default", ("    owner: str\n    cents: int = 0\n", "    owner: str\n    mail: str\n    cents: int = 0\n")),
    state("changes the keys of a table", ("Table[str, Account]", "Table[int, Account]")),
    state("takes the schema number up, and gives no step", ("orders", "placed"), (HEAD, HEAD_2)),
    state("takes a step that leads elsewhere", *migrated('rename("orders", "bought")', ("orders:", "placed:"), ("self.orders", "self.placed"))),
    state("takes a step from what is not there", *migrated('rename("sales", "placed")', ("orders:", "placed:"), ("self.orders", "self.placed"))),
    state("raises in a step", *migrated('convert("accounts.*.cents", lambda cents: cents / 0, lambda cents: cents)'), phase="snapshot|migrate", error="MigrationError"),
    state("makes the wrong type in a step", *migrated('convert("accounts.*.cents", lambda cents: str(cents), lambda cents: int(cents))'), phase="snapshot|migrate|restore", error="MigrationError"),
    state("forgets what a step goes back to", *migrated('convert("accounts.*.cents", lambda cents: None, lambda cents: 0)'), phase="snapshot|migrate|restore", error="MigrationError"),
    behaviour("loses money in a step", *migrated('convert("accounts.*.cents", lambda cents: cents // 2, lambda cents: cents * 2)')),
    behaviour("counts otherwise than before", ("    def total_cents(self) -> int:\n        return sum(", "    def total_cents(self) -> int:\n        return 1 + sum(")),
    behaviour("cannot say what must not change", ("    def total_cents(self) -> int:\n        return ", "    def total_cents(self) -> int:\n        return 1 / 0 + ")),
    behaviour("fails its own check", ("assert all(one.cents >= 0", "assert all(one.cents < 0")),
    behaviour("answers no in a check", method("@check\n    async def is_well(self) -> bool:\n        return False")),
    behaviour("never ends a check", method("@check\n    async def is_well(self) -> None:\n        while True:\n            pass"), error="PhaseTimeout"),
    behaviour("waits for ever in a check", method("@check\n    async def is_well(self) -> None:\n        import asyncio\n        await asyncio.Event().wait()"), error="PhaseTimeout"),
    behaviour("leaves in a check", method("@check\n    async def is_well(self) -> None:\n        raise SystemExit(1)")),
    behaviour("raises in on_start", method("async def on_start(self) -> None:\n        raise OSError('no port')"), phase="restore", error="ModuleError", outcome="rolled_back"),
    behaviour("never ends on_start", method("async def on_start(self) -> None:\n        import asyncio\n        await asyncio.Event().wait()"), phase="restore", error="PhaseTimeout", outcome="rolled_back"),
    behaviour("loops in on_start", method("async def on_start(self) -> None:\n        while True:\n            pass"), phase="restore", error="PhaseTimeout", outcome="rolled_back"),
    behaviour("spoils the state in on_start", method("async def on_start(self) -> None:\n        self.accounts['x'] = Account('x', 7)"), outcome="rolled_back"),
    behaviour("fails a check of what on_start opened", method("@check(when='pause')\n    async def is_open(self) -> bool:\n        return False"), outcome="rolled_back"),
    at_import("is no Python", "def broken(:"),
    at_import("imports what is not installed", "import there_is_no_such_package"),
    at_import("names what is not defined", "undefined_name"),
    at_import("raises", "raise ValueError('not today')"),
    at_import("raises what is no Exception", "raise KeyboardInterrupt"),
    at_import("leaves", "import sys\nsys.exit(0)"),
    at_import("leaves without a word", "import os\nos._exit(0)"),
    at_import("never ends", "while True:\n    pass"),
    at_import("crashes the interpreter", "import ctypes\nctypes.string_at(0)"),
    at_import("kills its process", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"),
    at_import("asks the terminal", "name = input('name? ')"),
    at_import("opens what is not there", "open('there-is-no-such-file.txt')"),
    at_import("replaces a function of others", "import json\njson.dumps = lambda *_, **__: ''"),
    at_import("starts a thread", "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()"),
    at_import("changes the environment", "import os\nos.environ['SHOP'] = 'open'"),
    at_import("catches a signal", "import signal\nsignal.signal(signal.SIGUSR1, lambda *_: None)"),
    at_import("goes to another folder", "import os\nos.chdir('/')"),
    late("latency", "waits longer than before", paying("import asyncio; await asyncio.sleep(0.002)")),
    late("latency", "computes longer than before", paying("from time import perf_counter as now; until = now() + 0.002\n        while now() < until: pass")),
    late("latency", "blocks the loop", paying("import time; time.sleep(0.002)")),
    late("leak", "keeps every call in a global list", paying("KEPT.append(KEPT_MORE + owner)"), kept("KEPT = []")),
    late("leak", "keeps every call in a default", (PAY, PAY.replace("cents: int = 1", "cents: int = 1, _kept: list[str] = []") + "        _kept.append(KEPT_MORE + owner)\n"), kept("")),
    late("leak", "caches without a limit", paying("cached(cents + len(self.accounts) + self.next())"), ("    @every(60)", "    counted = 0\n    def next(self) -> int:\n        Shop.counted += 1\n        return Shop.counted\n\n    @every(60)"), kept("import functools\n@functools.cache\ndef cached(n):\n    return KEPT_MORE + str(n)\n")),
    late("leak", "keeps every call on its object", paying("vars(self).setdefault('_kept', []).append(KEPT_MORE + owner)"), kept("")),
    shape("holds two modules", ('"""A shop."""\n', '"""A shop."""\nfrom replank import Module as Base\n\n\nclass Other(Base):\n    x: int = 0\n\n')),
    shape("holds none", ('(Module, version="1.0", schema=1)', ""), ("    @check\n", ""), ("class Shop", "class _Shop")),
    shape("annotates with what is not defined", ("notes: list[str]", "notes: 'list[Note]'")),
    shape("uses a module that is not there", (HEAD, HEAD + "    mail: object = uses('mail')\n"), ("from replank import add", "from replank import uses, add")),
    shape("leaves the range that its user accepts", ('version="1.0"', 'version="3.0"')),
    shape("awaits where both versions are asked at once", ("    def total_cents", "    async def total_cents")),
    shape("names a call as handles name theirs", method("async def send(self) -> None: ...")),
    shape("cannot be constructed", method("def __init__(self) -> None:\n        raise RuntimeError('no')"), error="SourceError"),
)  # fmt: skip


def good(name: str, *changes: tuple[str, str]) -> Edit:
    return Edit("good", name, changes, outcome="committed")


GOOD = (
    good("a comment", ('"""A shop."""\n', '"""A shop."""\n# it sells things\n')),
    good("another body", ("account.cents += cents\n", "account.cents = account.cents + cents\n")),
    good("a new call", method("async def count(self) -> int:\n        return len(self.accounts)")),
    good("an optional parameter at the end", (PAY, PAY.replace("cents: int = 1", "cents: int = 1, memo: str = ''"))),
    good("an optional keyword", (PAY, PAY.replace("cents: int = 1", "cents: int = 1, *, memo: str = ''"))),
    good("room for more arguments", (PAY, PAY.replace("cents: int = 1", "cents: int = 1, **more: str"))),
    good("another default", (PAY, PAY.replace("= 1", "= 2"))),
    good("a default where there was none", (BALANCE, BALANCE.replace("owner: str", "owner: str = 'ada'"))),
    good("a wider parameter", (PAY, PAY.replace("cents: int = 1", "cents: int | None = 1")), ("+= cents", "+= cents or 0")),
    good("a float where an int was", (PAY, PAY.replace("cents: int = 1", "cents: float = 1")), ("+= cents", "+= int(cents)")),
    good("the same type in other words", (BALANCE, BALANCE.replace("-> int", "-> 'int'"))),
    good("a narrower answer", ("def unused(self) -> None", "def unused(self) -> Literal[None]")),
    good("annotations where there were none", ("def bare(self, text)", "def bare(self, text: str)")),
    good("no annotations where there were some", (PAY, "    async def pay(self, owner, cents=1):\n")),
    good("a plain function instead of a coroutine", ("    async def receipt", "    def receipt")),
    good("a promise not to write", (UNUSED, "    @query\n" + UNUSED)),
    good("without a call that nobody uses", (UNUSED, "")),
    good("another signature of a call that nobody uses", ("def unused(self)", "def unused(self, wanted: str)")),
    good("a field with a default", ("    orders: int = 0\n", "    orders: int = 0\n    returned: int = 0\n")),
    good("a record's field with a default", ("    owner: str\n    cents: int = 0\n", "    owner: str\n    cents: int = 0\n    mail: str = ''\n")),
    good("a wider field", ("orders: int = 0", "orders: int | None = 0")),
    good("a field renamed with its step", *migrated('rename("orders", "placed")', ("orders:", "placed:"), ("self.orders", "self.placed"))),
    good("a field removed with its step", *migrated('remove("notes", default=[])', ("    notes: list[str] = []\n", ""), ("self.notes.clear()", "pass"))),
    good("a record's field renamed with its step", *migrated('rename("accounts.*.cents", "money")', ("    owner: str\n    cents: int = 0\n", "    owner: str\n    money: int = 0\n"), ("account.cents", "account.money"), ("one.cents", "one.money"), ("[owner].cents", "[owner].money"))),
    good("a converted field that counts the same", *migrated('convert("accounts.*.cents", lambda c: {"paid": c}, lambda c: c["paid"])', ("    owner: str\n    cents: int = 0\n", "    owner: str\n    cents: dict[str, int] = {}\n"), ("account.cents += cents", "account.cents['paid'] = account.cents.get('paid', 0) + cents"), ("return account.cents", "return account.cents['paid']"), ("one.cents", "sum(one.cents.values())"), ("return self.accounts[owner].cents", "return sum(self.accounts[owner].cents.values())"))),
    good("a new check", method("@check\n    async def is_well(self) -> None:\n        assert self.orders >= 0")),
    good("a new invariant", method("@invariant\n    def count(self) -> int:\n        return len(self.accounts)")),
    good("without its invariant", ("    @invariant\n    def total_cents", "    def _total_cents")),
    good("an on_start", method("async def on_start(self) -> None:\n        self._opened = True")),
    good("another period", ("@every(60)", "@every(30)")),
    good("an optional field of a record it takes", ("    count: int = 1\n", "    count: int = 1\n    note: str = ''\n")),
    good("a field more in a record it answers with", ("    item: str\n    cents: int = 0\n\n\nclass Account", "    item: str\n    cents: int = 0\n    tax: int = 0\n\n\nclass Account")),
    good("a member more in an enum it takes", ('    LARGE = "l"\n', '    LARGE = "l"\n    HUGE = "xl"\n')),
    good("another import", ('"""A shop."""\n', '"""A shop."""\nimport json\nimport decimal\n')),
    good("another class name", ("class Shop(", "class Store(")),
    good("a base class of its own", ('"""A shop."""\n', '"""A shop."""\nclass Helper:\n    def _help(self):\n        return 1\n\n'), (HEAD, HEAD.replace("Module,", "Helper, Module,"))),
    good("a cache with a limit", paying("cached(cents)"), ('"""A shop."""\n', '"""A shop."""\nimport functools\n\n\n@functools.lru_cache(64)\ndef cached(n):\n    return n\n')),
    good("a global that is filled once", paying("NAMES[owner] = cents"), ('"""A shop."""\n', '"""A shop."""\nNAMES = {}\n')),
    good("another order of the calls", (UNUSED, ""), (BALANCE, UNUSED + "\n" + BALANCE)),
    good("a docstring and a log line", paying("logging.getLogger(__name__).debug('paid')"), ('"""A shop."""\n', '"""A shop, with a log."""\nimport logging\n')),
    good("a call that waits a little", paying("import asyncio; await asyncio.sleep(0)")),
    good("another label within the range", ('version="1.0"', 'version="1.9"')),
)  # fmt: skip
