import ast

import pytest

from replank.code.editing import insert_class_step, insert_file_step, insert_functions
from replank.code.source_names import known_names
from replank.errors import UsageError


def step(indent, prefix):
    return f'{prefix}step(2, 3, {prefix}rename("a", "b"))'


def long_step(indent, prefix):
    pad = " " * (indent + 4)
    return f"step(\n{pad}2,\n{pad}3,\n{' ' * indent})"


FUNCTIONS = ("rename", "step")
CLASS = '''"""A ledger."""

from __future__ import annotations

from replank import Module, step


class Ledger(Module, version="1.0", schema=2):  # the books
    """Keep the books."""

    total: int = 0  # in cents
    {migrations}

    async def read(self) -> int:
        return self.total
'''


def insert(source, make=step):
    return insert_class_step(source, "Ledger", make, FUNCTIONS, 3)


def steps_in(source):
    """Return start and end of each step in the list of the class."""
    (owner,) = [n for n in ast.parse(source).body if isinstance(n, ast.ClassDef)]
    found = [
        n.value
        for n in owner.body
        if isinstance(n, ast.Assign | ast.AnnAssign) and "migrations" in ast.unparse(n)[:12]
    ]
    assert len(found) == 1
    return [tuple(arg.value for arg in call.args[:2]) for call in found[0].elts]


@pytest.mark.parametrize(
    ("migrations", "before"),
    [
        ("", []),
        ("migrations = []", []),
        ("migrations = ()", []),
        ("migrations = [step(1, 2)]", [(1, 2)]),
        ("migrations = [step(1, 2), step(0, 1)]", [(1, 2), (0, 1)]),
        ("migrations = (step(1, 2),)", [(1, 2)]),
        ("migrations: list = [step(1, 2)]", [(1, 2)]),
        ("migrations = [\n        step(1, 2),\n    ]", [(1, 2)]),
        ("migrations = [\n        step(1, 2)\n    ]", [(1, 2)]),
        ("migrations = [\n        step(1, 2)  # one, two\n    ]", [(1, 2)]),
        ("migrations = [\n        step(1, 2),  # one\n        # the end\n    ]", [(1, 2)]),
        ("migrations = [step(1, 2),\n                  step(0, 1)]", [(1, 2), (0, 1)]),
        (
            "migrations = [\n        step(\n            1,\n            2,\n        )\n    ]",
            [(1, 2)],
        ),
    ],
)
@pytest.mark.parametrize("make", [step, long_step])
def test_a_step_is_added_after_the_others_however_the_list_is_laid_out(migrations, before, make):
    source = CLASS.replace("{migrations}", migrations)
    changed = insert(source, make)
    assert steps_in(changed) == [*before, (2, 3)]
    assert "schema=3):  # the books" in changed
    assert "total: int = 0  # in cents" in changed
    comments = [line.partition("#")[2] for line in source.splitlines() if "#" in line]
    assert all(comment in changed for comment in comments)


def test_what_is_used_is_imported():
    assert "from replank import Module, rename, step" in insert(CLASS.replace("{migrations}", ""))


def test_a_missing_schema_number_is_added():
    source = CLASS.replace(", schema=2", "").replace("{migrations}", "")
    assert 'class Ledger(Module, version="1.0", schema=3):' in insert(source)


def test_a_class_without_fields_gets_its_list_before_the_first_method():
    source = (
        "from replank import Module\n\nclass Ledger(Module):\n    @staticmethod\n    def f(): ...\n"
    )
    changed = insert(source)
    assert steps_in(changed) == [(2, 3)]
    assert changed.index("migrations") < changed.index("@staticmethod")


def test_a_call_of_the_same_name_does_not_hide_the_function():
    source = CLASS.replace("{migrations}", "").replace("def read", "def rename")
    changed = insert(source)
    assert "import replank\n" in changed
    assert 'replank.step(2, 3, replank.rename("a", "b"))' in changed


def test_a_module_that_imports_the_package_keeps_its_way_of_naming():
    source = "import replank\n\n\nclass Ledger(replank.Module, schema=2):\n    total: int = 0\n"
    changed = insert(source)
    assert "replank.step(2, 3" in changed
    assert "from replank" not in changed


def test_line_ends_and_letters_beyond_ascii_stay():
    source = CLASS.replace("{migrations}", 'name: str = "Ä日本"; migrations = []')
    changed = insert(source.replace("\n", "\r\n"), long_step)
    assert "\n" not in changed.replace("\r\n", "")
    assert 'name: str = "Ä日本"; migrations' in changed


def test_an_import_with_a_comment_is_left_alone():
    source = "from replank import (  # the framework\n    Module,\n)\n\n\nclass Ledger(Module):\n    a: int = 0\n"
    changed = insert(source)
    assert "# the framework" in changed
    assert "from replank import rename, step" in changed


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{migrations}", "migrations = make()"),
        ("{migrations}", "migrations = step(1, 2), step(2, 3)"),
        ("schema=2", "schema=NUMBER"),
    ],
)
def test_what_is_not_understood_is_not_touched(old, new):
    source = CLASS.replace(old, new).replace("{migrations}", "")
    with pytest.raises(UsageError, match="nothing was written"):
        insert(source)


def test_a_class_on_one_line_is_not_touched():
    with pytest.raises(UsageError, match="on one line"):
        insert("from replank import Module\nclass Ledger(Module): total: int = 0\n")


def test_a_plain_file_gets_its_number_and_its_list_after_its_state():
    changed = insert_file_step('STATE = ("a",)\n\na = 1\n', step, FUNCTIONS, 3)
    assert changed.splitlines()[0] == "from replank import rename, step"
    space = {}
    exec(changed.replace("from replank import", "from replank.migration.steps import"), space)
    assert space["SCHEMA"] == 3
    assert [(one.start, one.end) for one in space["MIGRATIONS"]] == [(2, 3)]


def test_a_plain_file_that_has_both_has_both_changed():
    source = "from replank import step\nSCHEMA = 2  # the shape\nMIGRATIONS = [step(1, 2)]\n"
    changed = insert_file_step(source, step, FUNCTIONS, 3)
    assert "SCHEMA = 3  # the shape" in changed
    assert changed.count("MIGRATIONS") == 1
    assert changed.count("step(") == 2


def test_functions_go_to_the_end_and_bring_their_import():
    source = '"""Doc."""\nSCHEMA = 1\n\n\ndef call(): ...\n'
    changed = insert_functions(source, "def migrate_1_2(old):\n    return old\n", 2)
    assert "SCHEMA = 2" in changed
    assert '"""Doc."""\n\nimport copy' in changed
    assert changed.endswith("def call(): ...\n\n\ndef migrate_1_2(old):\n    return old\n")


def test_the_names_that_a_module_knows_are_found():
    names = known_names("import a.b as c\nfrom d import e\nx = y = 1\nif x:\n    def f(): ...\n")
    assert {"c", "e", "x", "y", "f", "str"} <= names
    assert "a" not in names
