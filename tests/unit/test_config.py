from pathlib import Path

import msgspec
import pytest

from replank import config as config_module
from replank.config import Config, HttpConfig, ModuleConfig, load_config, parse_config
from replank.config_words import expected_at
from replank.errors import ConfigError
from replank.named_files import config_for_files


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, Path("/etc/shop/replank.toml"))
    return caught.value


def test_an_empty_file_gives_the_defaults():
    config = parse_config("", Path("/etc/shop/replank.toml"))
    assert config.http == HttpConfig()
    assert config.reload.drain_timeout_s == 5.0
    assert config.data_dir == "/etc/shop/.replank"


def test_a_module_is_named_by_a_path_or_by_a_table_and_the_path_is_relative_to_the_file():
    text = """
    data_dir = "var"
    [modules]
    ledger = "ledger.py"
    [modules.api]
    source = "/opt/api"
    drain_policy = "detach"
    drain_timeout_s = 2
    """
    config = parse_config(text, Path("/etc/shop/replank.toml"))
    assert config.modules["ledger"].source == "/etc/shop/ledger.py"
    assert config.modules["api"].source == "/opt/api"
    assert config.data_dir == "/etc/shop/var"
    assert config.drain_timeout_s("api") == 2.0
    assert config.drain_timeout_s("ledger") == config.reload.drain_timeout_s


def test_an_unknown_key_is_refused_with_its_line_and_the_nearest_name():
    error = refused("[modules]\nledger = 'a.py'\n\n[reload]\ndrain_timeout = 3\n")
    assert error.location == "/etc/shop/replank.toml:5"
    assert error.found == "drain_timeout"
    assert error.do == "did you mean reload.drain_timeout_s?"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("[reload]\ncanary = [0.1]\n", "probation.canary"),
        ("[modules.ledger]\nsource = 'l.py'\ncanary = [0.1]\n", "probation.canary"),
        ("[reload]\ndurable = true\n", "modules.NAME.durable"),
        ("[reload]\ndata_dir = 'd'\n", "data_dir"),
    ],
)
def test_a_key_in_the_wrong_section_is_told_where_it_belongs(text, meant):
    assert refused(text).do == f"did you mean {meant}?"


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("[modul]\nledger = 'a.py'\n", 1, "modul"),
        ("[modules.ledger]\nsource = 'a.py'\nmax_wating = 3\n", 3, "modules.ledger.max_wating"),
        ("[modules]\nledger = { source = 'a.py', drain = 'x' }\n", 2, "modules.ledger.drain"),
        ("reload.probee = true\n", 1, "reload.probee"),
    ],
)
def test_unknown_keys_are_found_wherever_they_stand(text, line, key):
    error = refused(text)
    assert error.location == f"/etc/shop/replank.toml:{line}"
    assert key in error.what


@pytest.mark.parametrize(
    ("text", "line", "found", "expected"),
    [
        ("[reload]\nprobe = 'yes'\n", 2, "'yes'", "true or false"),
        (
            "[http]\nhost = '::1'\nport = 70000\n",
            3,
            "70000",
            "a whole number, at least 0 and at most 65535",
        ),
        ("[http]\nport = '8 k'\n", 2, "'8 k'", "a whole number, at least 0 and at most 65535"),
        (
            "[reload]\ndrain_timeout_s = 0\n",
            2,
            "0",
            "a number of seconds, without a unit, more than 0",
        ),
        (
            "[reload]\ndrain_timeout_s = '5s'\n",
            2,
            "'5s'",
            "a number of seconds, without a unit, more than 0",
        ),
        (
            "[reload]\nmax_memory_bytes = '1 GiB'\n",
            2,
            "'1 GiB'",
            "a whole number of bytes, without a unit, at least 1",
        ),
        (
            "[modules.a]\nsource = 'a.py'\ndrain_policy = 'kill'\n",
            3,
            "'kill'",
            'one of "abort", "cancel", "detach"',
        ),
        (
            "[probation]\ncanary = [2]\n",
            2,
            "[2]",
            "a list in [ ], each a number, more than 0 and at most 1",
        ),
        ("[trust]\nkeys = { ada = 5 }\n", 2, "{'ada': 5}", "a table, each value a text in quotes"),
        ("data_dir = 5\n", 1, "5", "a text in quotes"),
        ("modules = 3\n", 1, "3", "a table, each value a path in quotes, or a table with source"),
        ("[modules]\na = 3\n", 2, "3", "a path in quotes, or a table with source"),
        ("[http]\nallowed_hosts = [1]\n", 2, "[1]", "a list in [ ], each a text in quotes"),
    ],
)
def test_a_wrong_value_is_refused_with_line_found_and_expected(text, line, found, expected):
    error = refused(text)
    assert error.location == f"/etc/shop/replank.toml:{line}"
    assert (error.found, error.expected) == (found, expected)
    assert error.do


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[modules.a]\nsource = 'a.py'\ndrain_policy = 'abrt'\n", "abort"),
        ("[modules.a]\nsource = 'a.py'\ntype_check = 'of'\n", "off"),
        ("[telemetry]\nlog = 'jsn'\n", "json"),
        ("[reload]\nwhen_busy = 'newst'\n", "newest"),
    ],
)
def test_a_misspelt_value_gets_the_nearest_one(text, value):
    assert refused(text).do == f"did you mean {value}?"


def test_every_setting_can_say_in_words_what_it_may_hold():
    def keys(kind, path=""):
        for field in msgspec.structs.fields(kind):
            yield f"{path}{field.name}"
            if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
                yield from keys(field.type, f"{path}{field.name}.")
        if kind is Config:
            yield from keys(ModuleConfig, "modules.ledger.")

    found = {key: expected_at(Config, key)[0] for key in keys(Config)}
    assert len(found) > 80
    for key, words in found.items():
        section = key in {"modules", *Config.__struct_fields__[3:]}
        assert words.startswith("a table") == (section or key == "trust.keys"), key
        assert ("seconds" in words) == key.endswith("_s"), key


def test_the_right_module_is_blamed_among_several():
    error = refused("[modules.a]\nsource = 'a.py'\n[modules.b]\nsource = 3\n")
    assert error.what.startswith("modules.b.source")
    assert error.location == "/etc/shop/replank.toml:4"


def test_a_module_without_source_is_refused():
    error = refused("[modules.ledger]\nmax_waiting = 3\n")
    assert error.what == "modules.ledger lacks source"


def test_a_name_that_is_no_identifier_is_refused():
    assert "cannot be a module's name" in refused("[modules]\nmy-mod = 'a.py'\n").what


def test_broken_toml_is_refused_with_its_line():
    assert refused("[reload]\nprobe =\n").location == "/etc/shop/replank.toml:2"


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="there is no configuration file"):
        load_config(tmp_path / "replank.toml")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "replank.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "replank.toml")


def test_a_configuration_is_made_for_files_named_by_hand(tmp_path):
    (tmp_path / "ledger.py").touch()
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "__init__.py").touch()
    config = config_for_files([tmp_path / "ledger.py", tmp_path / "api"], data_dir=tmp_path / "d")
    assert {name: module.source for name, module in config.modules.items()} == {
        "ledger": str(tmp_path / "ledger.py"),
        "api": str(tmp_path / "api"),
    }
    assert config.data_dir == str(tmp_path / "d")


def test_files_that_cannot_be_modules_are_refused(tmp_path):
    for name in ("notes.txt", "my-mod.py"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "b").mkdir()
    for name in ("a.py", "b/a.py"):
        (tmp_path / name).touch()
    for files, message in (
        (["missing.py"], "there is no file"),
        (["notes.txt"], "neither a Python file nor a package"),
        (["my-mod.py"], "cannot be a module's name"),
        (["folder"], "is not a package"),
        (["a.py", "b/a.py"], "two modules would be called 'a'"),
        ([], "no module was named"),
    ):
        with pytest.raises(ConfigError, match=message):
            config_for_files([tmp_path / file for file in files])


def test_every_setting_says_its_unit_or_meaning():
    source = Path(config_module.__file__).read_text().splitlines()
    fields = [
        index
        for index, line in enumerate(source)
        if line.startswith("    ") and ": " in line and " = " in line and "_s: " in line
    ]
    assert fields
    for index in fields:
        assert '"""' in source[index + 1]
        assert "seconds" in source[index + 1].lower()


def test_a_checked_configuration_cannot_be_changed():
    with pytest.raises(AttributeError):
        Config().data_dir = "elsewhere"
