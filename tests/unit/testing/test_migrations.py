import pytest

from replank import Module, Record, Table, add, convert, rename, step
from replank.errors import SourceError, UsageError
from replank.migration.frozen import freeze_schemas
from replank.schema import read_schema
from replank.testing import MigrationsBroken, check_migrations


class Account(Record):
    owner: str
    amount: int = 0
    tier: str = "basic"


class Ledger(Module, version="2.0", schema=2):
    accounts: Table[str, Account]
    total_cents: int = 0

    migrations = [
        step(
            1,
            2,
            rename("total", "total_cents"),
            rename("accounts.*.cents", "amount"),
            add("accounts.*.tier", default="basic"),
        )
    ]


class Wrong(Module, version="2.0", schema=2):
    total: int = 0

    migrations = [step(1, 2, convert("total", lambda v: v * 2, lambda v: v))]


SOURCE = """from replank import Module, rename, step


class Ledger(Module, schema=2):
    total_cents: int = 0

    migrations = [step(1, 2, rename("total", "total_cents"))]
"""


def test_good_migrations_pass_and_the_report_says_what_was_checked():
    report = check_migrations(Ledger, generated=20)
    assert report.ok
    assert report.states == {"1": 20}


def test_old_states_can_be_given_as_plain_values():
    old = {"total": 3, "accounts": {"ada": {"owner": "ada", "cents": 3}}}
    assert check_migrations(Ledger, [old, (1, old)], generated=0).states == {"1": 2}


def test_broken_migrations_fail_with_step_place_and_values():
    with pytest.raises(MigrationsBroken) as raised:
        check_migrations(Wrong, [{"total": 7}])
    text = str(raised.value)
    assert "step 1 -> 2 (convert total)" in text
    assert "at total: 7 -> 14 (state 1)" in text
    assert isinstance(raised.value, AssertionError)


def test_a_state_that_the_steps_cannot_take_fails():
    with pytest.raises(MigrationsBroken, match="total"):
        check_migrations(Ledger, [{"accounts": {}}], generated=0)


def test_a_file_is_checked_with_the_schemas_frozen_beside_it(tmp_path):
    source = tmp_path / "ledger.py"
    source.write_text(SOURCE)
    old, _ = read_schema({"total": int}, {}, version=1, where="ledger")
    freeze_schemas(source, "ledger", old)
    assert check_migrations(source, generated=5).states == {"1": 5}
    freeze_schemas(source, "ledger", read_schema({"sum": int}, {}, version=1, where="x")[0])
    with pytest.raises(MigrationsBroken, match="there is a path"):
        check_migrations(source)


def test_misuse_is_told(tmp_path):
    with pytest.raises(UsageError, match="takes a module class"):
        check_migrations(Account)
    with pytest.raises(SourceError):
        check_migrations(tmp_path / "none.py")

    class Plain(Module):
        total: int = 0

    with pytest.raises(UsageError, match="nothing to check"):
        check_migrations(Plain)
