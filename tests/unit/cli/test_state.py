import asyncio
import json

import pytest

from replank import Host

LEDGER = """from replank import Module, Record, Table


class Account(Record):
    owner: str
    cents: int = 0


class Ledger(Module, version="{label}", schema={schema}):
    accounts: Table[str, Account]
    {total}: int = 0

    async def deposit(self, owner: str, cents: int) -> int:
        self.accounts.setdefault(owner, Account(owner)).cents += cents
        self.{total} += cents
        return self.{total}
"""


def run(folder, *calls):
    """Run a host once, in this process, and stop it."""

    async def work():
        async with Host({"bank": folder / "bank.py"}, data_dir=folder / ".replank") as host:
            return [await host["bank"].deposit(*call) for call in calls]

    return asyncio.run(work())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "bank.py").write_text(LEDGER.format(label="1.0", schema=1, total="total"))
    run(tmp_path, ("ada", 5), ("bob", 7))
    return tmp_path


def test_a_stopped_hosts_state_is_shown(replank, folder):
    shown = replank("state", "show", "bank")
    assert shown.exit_code == 0
    assert "bank 1.0, schema 1, 2 records, written" in shown.output
    assert "Table[str, Account]" in shown.output
    found = json.loads(replank("state", "show", "bank", "--json").output)
    assert found["fields"][0]["items"] == 2


def test_a_stopped_hosts_state_is_exported_changed_and_imported(replank, folder):
    assert replank("state", "export", "bank", "-o", "state.json").exit_code == 0
    text = (folder / "state.json").read_text()
    assert json.loads(text)["state"]["total"] == 12
    (folder / "state.json").write_text(text.replace('"total":12', '"total":100'))
    shown = replank("state", "import", "bank", "state.json")
    assert shown.exit_code == 0, shown.stderr
    assert "2 records put in" in shown.output
    assert run(folder, ("ada", 1)) == [101]


def test_an_export_goes_to_standard_output_without_a_file(replank, folder):
    assert json.loads(replank("state", "export", "bank").output)["module"] == "bank"
    facts = json.loads(replank("state", "export", "bank", "--json").output)
    assert facts["records"] == 2
    assert facts["output"] is None


def test_the_exported_file_is_its_owners_alone(replank, folder):
    replank("state", "export", "bank", "-o", "state.json")
    assert (folder / "state.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (('"module":"bank"', '"module":"api"'), "another module"),
        (('"total":12', '"total":"many"'), "does not fit its type"),
        (('"kind"', '"kinds"'), "no exported state"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(replank, folder, change, text):
    replank("state", "export", "bank", "-o", "state.json")
    path = folder / "state.json"
    path.write_text(path.read_text().replace(*change))
    shown = replank("state", "import", "bank", "state.json")
    assert shown.exit_code in (2, 3)
    assert text in shown.stderr
    assert run(folder, ("ada", 1)) == [13]


def test_where_nothing_is_known_it_says_so(replank, folder):
    for words in (("show", "api"), ("export", "api"), ("show", "bank", "--data-dir", "other")):
        shown = replank("state", *words)
        assert shown.exit_code == 2
        assert "no state of" in shown.stderr
    assert "did you mean bank?" in replank("state", "show", "bnk").stderr
    (folder / "x.json").write_text("{}")
    assert "never served" in replank("state", "import", "api", "x.json").stderr
    assert "there is no file" in replank("state", "import", "bank", "none.json").stderr


def test_migrations_are_checked_on_recorded_snapshots(replank, folder):
    source = folder / "bank.py"
    source.write_text(
        LEDGER.format(label="2.0", schema=2, total="total_cents")
        .replace("import Module", "import Module, rename, step")
        .replace(
            "    accounts:",
            '    migrations = [step(1, 2, rename("total", "total_cents"))]\n    accounts:',
        )
    )
    words = ("migrations", "check", "bank", "--snapshots", "--generated", "0", "--json")
    found = json.loads(replank(*words).output)
    assert found["ok"]
    assert found["states"] == {"1": 1}


def test_the_committed_schema_is_what_a_new_step_leads_from(replank, folder):
    source = folder / "bank.py"
    source.write_text(LEDGER.format(label="2.0", schema=1, total="total_cents"))
    words = ("migrations", "new", "bank", "--yes-rename", "total=total_cents", "--write")
    shown = replank(*words)
    assert shown.exit_code == 0, shown.stderr

    async def work():
        async with Host({"bank": source}, data_dir=folder / ".replank") as host:
            report = await host.reload("bank")
            return report, await host["bank"].deposit("ada", 1)

    report, total = asyncio.run(work())
    assert report.committed, report.error
    assert report.modules[0].schema_to == 2
    assert total == 13


def test_the_path_from_what_serves_is_shown_with_its_plain_code(replank, folder):
    source = folder / "bank.py"
    text = LEDGER.format(label="2.0", schema=2, total="total").replace("cents: int", "amount: int")
    steps = '    migrations = [step(1, 2, rename("accounts.*.cents", "amount"))]\n    accounts:'
    text = text.replace("import Module", "import Module, rename, step")
    source.write_text(text.replace("    accounts:", steps))
    shown = replank("migrations", "show", "bank.py")
    assert shown.exit_code == 0, shown.stderr
    assert "# each record of accounts" in shown.output
    assert "def up(" in shown.output
    assert "def down(" in shown.output
    found = json.loads(replank("migrations", "show", "bank.py", "--json").output)
    assert "amount" in found["code"]
