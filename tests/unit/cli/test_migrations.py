import json

import pytest

from replank.migration.frozen import read_frozen

LEDGER = """from replank import Module, Record, Table


class Account(Record):
    owner: str
    cents: int = 0


class Ledger(Module, version="1.0", schema=1):
    accounts: Table[str, Account]
    total: int = 0

    async def read(self) -> int:
        return 0
"""
PLAIN = 'STATE = ("hits",)\n\nhits: int = 0\n\n\ndef read() -> int:\n    return 0\n'


@pytest.fixture
def ledger(tmp_path, replank):
    source = tmp_path / "ledger.py"
    source.write_text(LEDGER)
    assert replank("migrations", "new", "ledger.py", "--write").exit_code == 0
    return source


def edit(source, *pairs):
    text = source.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    source.write_text(text)


def rename_total(source):
    edit(source, ("total: int", "total_cents: int"))


def test_the_first_write_remembers_the_shape_as_it_is(replank, ledger):
    assert read_frozen(ledger)[1].field("total") is not None
    assert "nothing to write" in replank("migrations", "new", "ledger.py").output
    assert ledger.read_text() == LEDGER


def test_without_anything_to_compare_with_it_says_what_to_do(replank, tmp_path):
    (tmp_path / "ledger.py").write_text(LEDGER)
    shown = replank("migrations", "new", "ledger.py")
    assert shown.exit_code == 2
    assert "--write" in shown.stderr


def test_unanswered_questions_are_exit_code_2_with_the_flags_that_answer_them(replank, ledger):
    rename_total(ledger)
    for more in ((), ("--write",)):
        shown = replank("migrations", "new", "ledger.py", *more)
        assert shown.exit_code == 2
        assert "--yes-rename total=total_cents" in shown.output
        assert "--remove total" in shown.output
        as_json = replank("migrations", "new", "ledger.py", "--json", *more)
        assert as_json.exit_code == 2
        (question,) = json.loads(as_json.output)["questions"]
        assert question["kind"] == "renamed"
        assert question["flags"] == ["--yes-rename total=total_cents", "--remove total"]
    assert "migrations" not in ledger.read_text()


def test_an_answered_step_is_printed_and_written_only_when_asked_to(replank, ledger):
    rename_total(ledger)
    answer = ("migrations", "new", "ledger.py", "--yes-rename", "total=total_cents")
    shown = replank(*answer)
    assert shown.exit_code == 0
    assert 'step(1, 2, rename("total", "total_cents"))' in shown.output
    assert "schema=1" in ledger.read_text()
    written = json.loads(replank(*answer, "--write", "--json").output)
    assert written["written"]
    assert written["schema_to"] == 2
    text = ledger.read_text()
    assert "schema=2" in text
    assert 'migrations = [step(1, 2, rename("total", "total_cents"))]' in text
    assert "from replank import Module, Record, Table, rename, step" in text
    assert set(read_frozen(ledger)) == {1, 2}
    assert "nothing to write" in replank("migrations", "new", "ledger.py").output


def test_the_next_change_becomes_the_next_step(replank, ledger):
    rename_total(ledger)
    replank("migrations", "new", "ledger.py", "--yes-rename", "total=total_cents", "--write")
    edit(ledger, ("    cents: int = 0", "    cents: str"), ("owner: str", "name: str"))
    shown = replank(
        "migrations", "new", "ledger.py", "--write",
        "--yes-rename", "accounts.*.owner=name",
        "--convert", "accounts.*.cents=str", "--convert-down", "accounts.*.cents=int",
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    assert "schema=3" in ledger.read_text()
    assert replank("migrations", "check", "ledger.py", "--generated", "20").exit_code == 0
    path = json.loads(replank("migrations", "show", "ledger.py", "--from", "1", "--json").output)
    assert [(one["start"], one["end"]) for one in path["steps"]] == [(1, 2), (2, 3)]


def test_a_package_has_the_file_of_its_class_changed(replank, tmp_path):
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("from .books import Ledger\n")
    (package / "books.py").write_text(LEDGER)
    assert replank("migrations", "new", "shop", "--write").exit_code == 0
    rename_total(package / "books.py")
    shown = replank("migrations", "new", "shop", "--yes-rename", "total=total_cents", "--write")
    assert shown.exit_code == 0, shown.stderr
    assert "schema=2" in (package / "books.py").read_text()
    assert (package / "__init__.py").read_text() == "from .books import Ledger\n"


def test_a_plain_file_gets_a_number_and_a_list(replank, tmp_path):
    source = tmp_path / "tools.py"
    source.write_text(PLAIN)
    replank("migrations", "new", "tools.py", "--write")
    edit(source, ('"hits"', '"count"'), ("hits: int", "count: int"))
    shown = replank("migrations", "new", "tools.py", "--yes-rename", "hits=count", "--write")
    assert shown.exit_code == 0, shown.stderr
    assert "SCHEMA = 2" in source.read_text()
    assert 'MIGRATIONS = [step(1, 2, rename("hits", "count"))]' in source.read_text()


def test_a_plain_file_with_functions_gets_functions(replank, tmp_path):
    source = tmp_path / "tools.py"
    source.write_text(
        PLAIN
        + "\n\ndef migrate_1_2(old):\n    return old\n\n\ndef migrate_2_1(new):\n    return new\n"
    )
    replank("migrations", "new", "tools.py", "--write")
    edit(source, ('"hits"', '"count"'), ("hits: int", "count: int"))
    shown = replank("migrations", "new", "tools.py", "--yes-rename", "hits=count", "--write")
    assert shown.exit_code == 0, shown.stderr
    assert "def migrate_2_3(old):" in source.read_text()
    assert "def migrate_3_2(new):" in source.read_text()
    checked = replank("migrations", "check", "tools.py", "--generated", "20")
    assert checked.exit_code == 0, checked.output


def test_a_step_with_which_the_source_does_not_load_is_not_left_in_it(replank, ledger):
    edit(ledger, ("total: int = 0", 'total: str = ""'))
    ledger.write_text(ledger.read_text() + "\n\ndef to_text(value):\n    return str(value)\n")
    before = ledger.read_text()
    shown = replank("migrations", "new", "ledger.py", "--convert", "total=to_text", "--write")
    assert shown.exit_code == 2
    assert "nothing was written" in shown.stderr
    assert ledger.read_text() == before


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--yes-rename", "x=y"), "answers nothing"),
        (("--yes-rename", "total"), "FIELD=VALUE"),
        (("--default", "a=1", "--default", "a=2"), "a twice"),
        (("--source", "missing.py"), "there is no file"),
    ],
)
def test_wrong_answers_are_told(replank, ledger, words, text):
    rename_total(ledger)
    shown = replank("migrations", "new", "ledger.py", *words)
    assert shown.exit_code == 2
    assert text in shown.stderr


def test_an_unknown_module_is_told_with_those_that_are_known(replank, tmp_path):
    (tmp_path / "replank.toml").write_text('[modules]\nledger = "ledger.py"\n')
    shown = replank("migrations", "show", "books")
    assert shown.exit_code == 2
    assert "ledger; or a file" in shown.stderr


def test_show_says_both_ways_and_what_is_lost(replank, ledger):
    edit(
        ledger,
        ("schema=1", "schema=2"),
        (
            "    total: int = 0",
            '    migrations = [step(1, 2, remove("total"), convert("accounts.*.cents", abs))]',
        ),
        ("import Module", "import Module, convert, remove, step"),
    )
    shown = replank("migrations", "show", "ledger.py").output
    assert "step 1 -> 2  (lossy, one-way)" in shown
    assert "up    remove total  lossy" in shown
    assert "down  add total" in shown
    assert "down  no way back" in shown


def test_check_tells_step_place_and_values_and_ends_with_1(replank, ledger):
    edit(
        ledger,
        ("schema=1", "schema=2"),
        (
            "    total: int = 0",
            '    total: int = 0\n    migrations = [step(1, 2, convert("total", lambda v: v + 1, abs))]',
        ),
        ("import Module", "import Module, convert, step"),
    )
    shown = replank("migrations", "check", "ledger.py", "--generated", "20")
    assert shown.exit_code == 1
    assert "step 1 -> 2 (convert total) at total: " in shown.output
    found = json.loads(replank("migrations", "check", "ledger.py", "--json").output)
    assert found["ok"] is False
    assert found["findings"][0]["place"] == "total"


def test_check_without_anything_to_check_ends_with_2(replank, ledger):
    shown = replank("migrations", "check", "ledger.py")
    assert shown.exit_code == 2
    assert "nothing to check" in shown.stderr


def test_a_terminal_is_asked_question_by_question(replank, ledger, monkeypatch):
    from click.testing import CliRunner

    from replank.cli import new_step
    from replank.cli.app import app

    rename_total(ledger)
    edit(
        ledger,
        ("    cents: int = 0", "    cents: str"),
        ("    owner: str", "    owner: str\n    tier: int"),
    )
    monkeypatch.setattr(new_step, "_is_terminal", lambda: True)
    words = ["migrations", "new", "ledger.py", "--write"]
    answers = "1\n7\nstr\nint\n"
    shown = CliRunner().invoke(app, words, input=answers)
    assert shown.exit_code == 0, shown.output
    assert "it is total_cents now" in shown.output
    text = ledger.read_text()
    assert 'add("accounts.*.tier", default=7)' in text
    assert 'convert("accounts.*.cents", str, int)' in text
    assert 'rename("total", "total_cents")' in text
