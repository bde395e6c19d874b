"""Only what a listed key has signed is loaded, and only what was reviewed, to the byte."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from replank import Host, Outcome
from replank.cli.app import app
from replank.code import trust
from replank.code.source import digest_of
from replank.config import Config, HttpConfig, ReloadConfig, TrustConfig
from replank.control.server import ControlServer
from replank.errors import ConfigError, TrustError, UsageError

LEDGER = """
from replank import Module
class Ledger(Module, version="{v}"):
    async def label(self) -> str:
        return "{v}"
"""
pytest.importorskip("cryptography", reason="it is an extra: replank[sign]")

QUICK = ReloadConfig(probe=False, probation_s=0.0)


def command(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.output.strip()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.py"
    path.write_text(LEDGER.format(v="1"))
    return path


async def test_only_versions_signed_by_a_listed_key_are_loaded(
    tmp_path: Path, source: Path
) -> None:
    alice, mallory = tmp_path / "alice.key", tmp_path / "mallory.key"
    keys = {"alice": command("new-key", str(alice))}
    command("new-key", str(mallory))
    assert alice.stat().st_mode & 0o077 == 0
    trusted = TrustConfig(require_signature=True, keys=keys)
    config = Config(data_dir=str(tmp_path / "data"), reload=QUICK, trust=trusted)

    with pytest.raises(TrustError, match="not signed"):
        async with Host({"ledger": source}, config=config):
            pass
    command("sign", "--key", str(alice), str(source))
    async with Host({"ledger": source}, config=config) as host:
        (first,) = await host.history()
        assert (first.reason, first.modules[0].signer) == ("start", "alice")
        source.write_text(LEDGER.format(v="2"))
        for key, said in ((None, "signature is of another version"), (mallory, "by no key")):
            if key is not None:
                command("sign", "--key", str(key), str(source))
            report = await host.reload("ledger")
            assert report.outcome is Outcome.REJECTED
            assert said in report.error.message
            assert (report.error.kind, report.error.phase) == ("TrustError", "prepare")
        command("sign", "--key", str(alice), str(source))
        report = await host.reload("ledger")
        assert report.committed, report.error
        assert report.modules[0].signer == "alice"
        (kept, *_) = await host.history()
        assert kept.modules[0].signer == "alice"
        assert kept.modules[0].digest_to == digest_of(source)
        assert (await host.rollback("ledger")).committed  # what was committed was judged then


async def test_a_signature_that_was_tampered_with_fits_no_key(tmp_path: Path, source: Path) -> None:
    key = tmp_path / "alice.key"
    public = trust.new_key(key)
    trust.sign(source, key)
    path = trust.signature_path(source)
    signed = json.loads(path.read_text())
    version = Host({"ledger": source}, data_dir=tmp_path / "data")._workshop.store.put(source)
    assert trust.find_signer("ledger", version, {"alice": public}) == "alice"
    for field, value in (("signature", "AAAA"), ("signature", "?"), ("digest", "sha256:0")):
        path.write_text(json.dumps({**signed, field: value}))
        with pytest.raises(TrustError):
            trust.find_signer("ledger", version, {"alice": public})
    path.write_text("no json")
    with pytest.raises(TrustError, match="cannot be read"):
        trust.find_signer("ledger", version, {"alice": public})


async def test_a_key_that_is_none_is_refused_before_anything_starts(
    tmp_path: Path, source: Path
) -> None:
    trusted = TrustConfig(require_signature=True, keys={"alice": "ed25519:short"})
    config = Config(data_dir=str(tmp_path / "data"), trust=trusted)
    with pytest.raises(ConfigError, match="key of alice is none"):
        async with Host({"ledger": source}, config=config):
            pass
    with pytest.raises(UsageError, match="no private key"):
        trust.sign(source, source)
    taken = tmp_path / "taken"
    taken.touch()
    with pytest.raises(UsageError, match="cannot be written"):
        trust.new_key(taken)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(trust.importlib, "import_module", missing)
    with pytest.raises(ConfigError) as raised:
        trust.check_keys({"alice": "ed25519:AAAA"})
    assert "replank[sign]" in raised.value.do


async def test_what_was_reviewed_is_what_runs(tmp_path: Path, source: Path) -> None:
    async with Host({"ledger": source}, config=Config(reload=QUICK), data_dir=tmp_path) as host:
        source.write_text(LEDGER.format(v="2"))
        reviewed = digest_of(source)
        source.write_text(LEDGER.format(v="3"))  # somebody was faster
        report = await host.reload("ledger", expect=reviewed)
        assert report.outcome is Outcome.REJECTED
        assert report.error.kind == "TrustError"
        assert (report.error.found, report.error.expected) == (digest_of(source), reviewed)
        assert await host["ledger"].label() == "1"
        assert (await host.reload("ledger", expect={"ledger": digest_of(source)})).committed
        with pytest.raises(UsageError, match="no digest"):
            host.reload("ledger", expect="sha256:12")
        with pytest.raises(UsageError, match="other is not reloaded"):
            host.reload("ledger", expect={"other": reviewed})


async def test_an_operator_names_the_digest(tmp_path: Path, source: Path) -> None:
    data = tmp_path / "data"
    config = Config(data_dir=str(data), reload=QUICK, http=HttpConfig(enabled=False))
    async with Host({"ledger": source}, config=config) as host, ControlServer(host, config):
        source.write_text(LEDGER.format(v="2"))
        found = command("digest", str(source))

        async def reload(digest: str) -> dict:
            words = ["reload", "ledger", "--expect", digest, "--json", "--data-dir", str(data)]
            done = await asyncio.to_thread(CliRunner().invoke, app, words)
            return json.loads(done.output)

        other = f"{found[:-1]}{'0' if found[-1] != '0' else '1'}"
        assert (await reload(other))["error"]["kind"] == "TrustError"
        assert (await reload(f"ledger={found}"))["outcome"] == "committed"
