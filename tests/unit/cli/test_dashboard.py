"""`replank run --dashboard`: turned on by option or file, its token for a person's terminal only."""

import pytest

from replank.cli.run import _invitation, read_run_config
from replank.control.locate import Contact
from replank.errors import ConfigError


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "ledger.py"
    file.write_text("def now():\n    return 1\n")
    return file


def read(source, **more):
    return read_run_config([source], data_dir=None, host=None, port=None, **more)[0]


def test_it_is_off_unless_it_is_asked_for(source):
    assert not read(source).http.dashboard
    assert read(source, dashboard=True).http.dashboard


def test_it_is_refused_without_the_http_server(tmp_path, source):
    file = tmp_path / "replank.toml"
    file.write_text('[modules]\nledger = "ledger.py"\n[http]\nenabled = false\n')
    with pytest.raises(ConfigError, match="needs the HTTP server"):
        read(file, dashboard=True)


@pytest.mark.parametrize("private", [True, False])
def test_the_token_is_shown_in_a_terminal_and_never_in_a_log(tmp_path, private):
    token = tmp_path / "token"
    token.write_text("very-secret-token\n")
    contact = Contact(pid=1, socket="s", http="http://h", version="0", token_file=str(token))
    text = _invitation("http://h/dashboard", contact, private=private).plain
    assert ("http://h/dashboard#token=very-secret-token" in text) is private
    assert ("very-secret-token" in text) is private
    assert private or str(token) in text
