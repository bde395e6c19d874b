import pytest

from replank.errors import SchemaError
from replank.migration.frozen import freeze_schemas, frozen_path, read_frozen
from replank.schema import read_schema


def schema(version, **hints):
    return read_schema(hints, {}, version=version, where="x")[0]


def test_schemas_are_remembered_by_number_beside_the_source(tmp_path):
    source = tmp_path / "ledger.py"
    one, two = schema(1, a=int), schema(2, b=dict[str, int])
    assert read_frozen(source) == {}
    path = freeze_schemas(source, "ledger", one)
    assert path == frozen_path(source) == tmp_path / "ledger.schemas.json"
    freeze_schemas(source, "ledger", two)
    assert read_frozen(source) == {1: one, 2: two}
    freeze_schemas(source, "ledger", schema(2, c=int))
    assert read_frozen(source)[2].field("c") is not None


def test_a_package_has_its_file_beside_its_folder(tmp_path):
    assert frozen_path(tmp_path / "shop") == tmp_path / "shop.schemas.json"


@pytest.mark.parametrize("text", ["", "{", "{}", '{"module": "a", "schemas": {"x": {}}}'])
def test_a_broken_file_is_refused_with_its_place(tmp_path, text):
    source = tmp_path / "ledger.py"
    frozen_path(source).write_text(text)
    with pytest.raises(SchemaError) as raised:
        read_frozen(source)
    assert raised.value.location == str(frozen_path(source))
