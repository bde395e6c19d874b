import sys

import pytest

from replank.code.reading import reading
from replank.errors import DefinitionError, SourceError

SOURCE = "from replank import Module\n\n\nclass Ledger(Module, schema=4):\n    total: int = 0\n"


def test_a_definition_is_read_and_the_code_is_forgotten(tmp_path):
    source = tmp_path / "ledger.py"
    source.write_text(SOURCE)
    before = set(sys.modules)
    with reading(source, "ledger") as first, reading(source, "ledger") as second:
        assert first.definition.schema.version == 4
        assert first.definition.owner is not second.definition.owner
        assert first.own.owns(first.definition.owner)
        assert not first.own.owns(second.definition.owner)
    assert not any("ledger" in name for name in set(sys.modules) - before)


@pytest.mark.parametrize(("text", "error"), [("1 / 0", SourceError), ("x = 1", DefinitionError)])
def test_what_does_not_load_leaves_nothing_behind(tmp_path, text, error):
    source = tmp_path / "ledger.py"
    source.write_text(text)
    before = set(sys.modules)
    with pytest.raises(error), reading(source, "ledger"):
        pass
    assert not any("ledger" in name for name in set(sys.modules) - before)
