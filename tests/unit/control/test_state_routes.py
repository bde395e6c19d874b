import msgspec
import pytest

from replank.control.guard import TOKEN_FILE
from replank.state.exchange import FieldState, ImportReport, StateReport

from .fake_host import FakeHost


class StateHost(FakeHost):
    def __init__(self):
        super().__init__()
        self.imported = []

    def describe_state(self, name):
        field = FieldState(name="total", type="int")
        return StateReport(
            module=name, label="1", schema=1, fingerprint="f", records=0, fields=(field,)
        )

    async def export_state(self, name):
        return b'{"module":"ledger"}'

    async def import_state(self, name, document):
        self.imported.append((name, document))
        return ImportReport(module=name, schema_from=1, schema_to=1, records=3)


@pytest.fixture
async def host():
    return StateHost()


async def test_a_state_is_described_and_exported(host, unix):
    shown = await unix("GET", "/control/state?module=ledger")
    assert shown.json["fields"][0]["name"] == "total"
    assert (await unix("POST", "/control/state/export", {"module": "ledger"})).json == {
        "module": "ledger"
    }


async def test_an_import_takes_a_file_or_the_document_itself(host, unix, tmp_path):
    path = tmp_path / "state.json"
    path.write_text('{"a": 1}')
    body = {"module": "ledger", "path": str(path)}
    assert (await unix("POST", "/control/state/import", body)).json["records"] == 3
    body = {"module": "ledger", "document": {"a": 2}}
    assert (await unix("POST", "/control/state/import", body)).status == 200
    assert [msgspec.json.decode(text) for _, text in host.imported] == [{"a": 1}, {"a": 2}]
    assert (await unix("POST", "/control/state/import", {"module": "ledger"})).status == 422
    body = {"module": "ledger", "path": str(tmp_path / "none")}
    assert (await unix("POST", "/control/state/import", body)).status == 400
