import json
from types import SimpleNamespace

import msgspec
import pytest

from replank.definition import Definition
from replank.errors import MigrationError, SchemaError, UsageError
from replank.migration.steps import rename, step
from replank.reading import read_definition
from replank.state.document import read_document, write_document
from replank.state.exchange import (
    describe_snapshot,
    describe_state,
    fit,
    freeze_in_slices,
    snapshot_of,
)
from replank.state.names import Namespace
from replank.state.slices import run_all
from replank.table import Table
from replank.verification.states import StateGenerator
from tests.state_helpers import load

SOURCE = """
from replank.module import Module
from replank.migration.steps import rename, step

class Account(Record):
    owner: str
    cents: int = 0

class Ledger(Module, version="1.0", schema={schema}):
    accounts: Table[str, Account]
    {total}: int = 0
    raw: bytes = b""
    rate: float = 0.0
    price: decimal.Decimal = decimal.Decimal(0)
    seen: set[int] = set()
    pair: tuple[int, str] | None = None
    by_day: dict[datetime.date, int]
    lock: Carry[typing.Any] = None
    {more}
"""


class Holder:
    def __init__(self, schema=1, total="total", more=""):
        module = load(SOURCE.format(schema=schema, total=total, more=more), "exchanged")
        self.definition: Definition = read_definition(module, "ledger")
        self.own = Namespace(module.__name__)
        self.module = module
        self.target = self.definition.construct(module)

    def values(self):
        return {name: vars(self.target)[name] for name in self.definition.hints}

    def assign(self, values):
        for name, value in values.items():
            setattr(self.target, name, value)


def filled(**more):
    holder = Holder(**more)
    for n in range(50):
        holder.target.accounts[f"a{n}"] = holder.module.Account(f"owner {n}", n)
    holder.target.raw = b"\x00\xff"
    holder.target.rate = float("inf")
    holder.target.seen = {1, 2}
    holder.target.pair = (1, "x")
    return holder


def test_a_state_goes_out_as_json_and_comes_in_again():
    holder = filled()
    snapshot = snapshot_of(holder, "sha256:a")
    text = write_document(snapshot)
    plain = json.loads(text)
    assert plain["schema"]["version"] == 1
    assert plain["fingerprint"] == holder.definition.schema.fingerprint
    assert plain["state"]["accounts"]["a3"] == {"owner": "owner 3", "cents": 3}
    assert "lock" not in plain["state"]
    back = read_document(text, "ledger")
    assert back.tree == snapshot.tree
    assert back.records == snapshot.records


def test_everything_that_a_schema_can_describe_survives_json():
    definition = Holder().definition
    snapshot = snapshot_of(Holder(), "")
    for tree in StateGenerator(definition.schema).states(40):
        sent = msgspec.structs.replace(snapshot, tree=tree)
        assert read_document(write_document(sent), "ledger").tree == tree


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"kind": "other"}, "no exported state"),
        ({"format": 99}, "newer Replank"),
        ({"module": "api"}, "another module"),
        ({"fingerprint": "sha256:0"}, "not the one it was written with"),
        ({"schema": {}}, "cannot be understood"),
        ({"state": {"seen": {"$": "what"}}}, "cannot be understood"),
        ({"extra": 1}, "no exported state"),
    ],
)
def test_what_is_no_export_of_this_module_is_refused(change, what):
    plain = json.loads(write_document(snapshot_of(filled(), ""))) | change
    with pytest.raises(UsageError, match=what) as raised:
        read_document(json.dumps(plain).encode(), "ledger")
    assert raised.value.serves == "the state as it was"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"null"])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(UsageError, match="no exported state"):
        read_document(text, "ledger")


def test_an_older_state_is_migrated_and_every_field_has_a_new_value():
    snapshot = snapshot_of(filled(), "")
    newer = Holder(
        2, "cents", 'migrations = [step(1, 2, rename("total", "cents"))]\n    note: str = "-"'
    )
    newer.target.note = "live"
    values, way = fit(snapshot, newer)
    assert way.steps[0].startswith("step 1 -> 2")
    assert values["note"] == "-"
    assert values["accounts"]["a3"].__class__ is newer.module.Account
    assert "lock" not in values


def test_a_newer_state_and_one_without_a_path_are_refused():
    with pytest.raises(UsageError, match="newer than the code"):
        fit(snapshot_of(filled(schema=3), ""), Holder(2))
    with pytest.raises(SchemaError):
        fit(snapshot_of(filled(), ""), Holder(2, "cents"))


def test_a_value_that_does_not_fit_is_refused():
    snapshot = snapshot_of(filled(), "")
    snapshot.tree["total"] = "many"
    with pytest.raises(MigrationError, match="total"):
        fit(snapshot, Holder())


def test_a_live_state_is_copied_in_slices_while_it_changes():
    holder = filled()
    work = freeze_in_slices(holder)
    next(work)
    holder.target.accounts["a49"].cents = -1
    del holder.target.accounts["a48"]
    holder.target.accounts["late"] = holder.module.Account("late")
    tree = run_all(work)
    assert tree["accounts"]["a49"] == {"owner": "owner 49", "cents": -1}
    assert "a48" not in tree["accounts"]
    assert tree["accounts"].keys() <= {f"a{n}" for n in range(50)}
    assert tree["seen"] == {1, 2}


def test_an_idle_state_is_copied_in_slices_as_it_is_at_once():
    holder = filled()
    assert run_all(freeze_in_slices(holder)) == snapshot_of(holder, "").tree


def test_a_state_is_described_alive_and_from_the_disk_alike():
    holder = filled()
    live, stored = describe_state(holder), describe_snapshot(snapshot_of(holder, ""))
    fields = {one.name: one for one in live.fields}
    assert fields["accounts"].items == 50
    assert fields["accounts"].type == "Table[str, Account]"
    assert fields["lock"].carried
    assert fields["total"].items is None
    assert {f.name: f for f in stored.fields} == {n: f for n, f in fields.items() if n != "lock"}


def test_the_size_of_a_large_field_is_estimated_by_a_sample():
    holder = Holder()
    make = holder.module.Account
    holder.target.accounts = Table({f"k{n:06}": make("x", 7) for n in range(5000)})
    estimate = describe_state(holder).fields[0].bytes_estimate
    exact = len(write_document(snapshot_of(holder, "")))
    assert exact / 3 < estimate < exact


def test_steps_of_a_plain_definition_are_found():
    holder = filled()
    definition = SimpleNamespace(
        name="ledger", schema=holder.definition.schema, hints=holder.definition.hints,
        migrations=[step(1, 2, rename("a", "b"))], functions={}, carried=("lock",), label="1",
        shape="class", fresh_defaults=lambda: iter(()),
    )  # fmt: skip
    values, way = fit(
        snapshot_of(holder, ""), SimpleNamespace(definition=definition, own=holder.own)
    )
    assert way.identity
    assert values["total"] == 0
