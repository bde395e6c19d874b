from pathlib import Path

import msgspec
import pytest

from replank.control.guard import TOKEN_FILE
from replank.state.exchange import FieldState, ImportReport, StateReport

from .fake_host import FakeHost


class StateHost(FakeHost):
    def __init__(self):
        super().__init__()
        self.imported = []

    async def look_at_state(self, name):
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


@pytest.fixture
def control(ask, config):
    """Ask over TCP with the token, as a program on another machine does."""

    async def control(method, path, body=b""):
        token = (Path(config.data_dir) / TOKEN_FILE).read_text().strip()
        return await ask(method, path, body, {"Authorization": f"Bearer {token}"})

    return control


async def test_a_state_is_described_and_exported(host, control):
    shown = await control("GET", "/control/state?module=ledger")
    assert shown.json["fields"][0]["name"] == "total"
    exported = await control("POST", "/control/state/export", {"module": "ledger"})
    assert exported.json == {"module": "ledger"}


async def test_an_import_takes_the_document_itself_and_over_tcp_no_file(host, control, tmp_path):
    path = "/control/state/import"
    sent = await control("POST", path, {"module": "ledger", "document": {"a": 2}})
    assert sent.json["records"] == 3
    assert [msgspec.json.decode(text) for _, text in host.imported] == [{"a": 2}]
    named = await control("POST", path, {"module": "ledger", "path": str(tmp_path / "x")})
    assert named.status == 403
    assert (await control("POST", path, {"module": "ledger"})).status == 422
    assert len(host.imported) == 1


async def test_without_the_token_no_state_is_told(host, ask):
    assert (await ask("GET", "/control/state?module=ledger")).status == 401
    assert (await ask("POST", "/control/state/export", {"module": "ledger"})).status == 401
