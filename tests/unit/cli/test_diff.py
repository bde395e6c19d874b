import asyncio
import json

import pytest

from replank.host import Host

V1 = """
from replank import Module

class Ledger(Module, version="1.0"):
    total: int = 0
    async def deposit(self, cents: int) -> int:
        self.total += cents
        return self.total
"""


@pytest.fixture
def source(tmp_path):
    """The source of a module that has served once."""
    path = tmp_path / "ledger.py"
    path.write_text(V1)

    async def once():
        async with Host({"ledger": path}, data_dir=tmp_path / ".replank"):
            pass

    asyncio.run(once())
    return path


def test_an_unchanged_source_is_said_to_be_what_serves(source, replank):
    done = replank("diff", "ledger")
    assert done.exit_code == 0, done.output
    assert done.output == "ledger 1.0  the source is byte for byte what serves\n"


def test_calls_state_and_text_are_compared(source, replank):
    changed = V1.replace("1.0", "2.0").replace("cents: int)", "cents: int, memo: str)")
    source.write_text(changed.replace("total: int", "total: str"))
    done = replank("diff", "ledger")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].startswith("ledger 1.0 → 2.0  ")
    assert lines[1] == "  breaking: deposit: parameter memo is new and required"
    assert lines[2] == "  schema 1: total: int -> str; needs a step"
    assert lines[3:5] == ["--- serving/ledger.py", "+++ disk/ledger.py"]
    assert "+    async def deposit(self, cents: int, memo: str) -> int:" in lines


def test_a_file_of_another_name_is_compared_line_by_line(source, replank, tmp_path):
    (tmp_path / "v2.py").write_text(V1.replace("1.0", "2.0"))
    done = replank("diff", "ledger", "--source", str(tmp_path / "v2.py"))
    lines = done.output.splitlines()
    assert lines[2:4] == ["--- serving/ledger.py", "+++ disk/v2.py"]
    assert [one for one in lines[4:] if one.startswith(("-", "+"))] == [
        '-class Ledger(Module, version="1.0"):',
        '+class Ledger(Module, version="2.0"):',
    ]


def test_the_same_as_json(source, replank):
    source.write_text(V1.replace("cents: int)", "cents: int, memo: str = '')"))
    done = replank("diff", "ledger", "--json")
    found = json.loads(done.output)
    assert found["contract"] == [
        {
            "call": "deposit",
            "kind": "parameter_added",
            "text": "deposit: parameter memo is new",
            "breaking": False,
        }
    ]
    assert found["schema_changes"] == []
    assert found["digest_from"] != found["digest_to"]
    assert found["source"].startswith("--- serving/ledger.py\n+++ disk/ledger.py\n")


def test_a_change_inside_a_call_changes_no_contract(source, replank, tmp_path):
    elsewhere = tmp_path / "v2" / "ledger.py"
    elsewhere.parent.mkdir()
    elsewhere.write_text(V1.replace("return self.total", "return int(self.total)"))
    done = replank("diff", "ledger", "--source", elsewhere)
    assert "  calls and state are as they were" in done.output.splitlines()


def test_a_source_that_does_not_load_is_told_with_its_line(source, replank):
    source.write_text("def broken(:\n")
    done = replank("diff", "ledger")
    assert done.exit_code != 0
    assert "ledger.py:1" in done.output


def test_a_module_that_never_served_is_refused(tmp_path, replank):
    (tmp_path / "other.py").write_text(V1)
    done = replank("diff", "other.py")
    assert done.exit_code == 2
    assert "no version of other has served yet" in done.output
