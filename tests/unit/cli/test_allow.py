import pytest


@pytest.mark.parametrize("command", ["reload", "plan"])
def test_what_may_break_reaches_the_host(command, serving, replank, tmp_path):
    words = ("--allow-breaking", "deposit", "--allow-breaking", "ledger.total")
    done = replank(command, "ledger", *words, "--data-dir", serving.data_dir)
    assert done.exit_code == 0, done.output
    assert serving.host.allowed == ["deposit", "ledger.total"]


@pytest.mark.parametrize("command", ["reload", "plan"])
def test_nothing_may_break_when_nothing_is_said(command, serving, replank):
    done = replank(command, "ledger", "--data-dir", serving.data_dir)
    assert done.exit_code == 0, done.output
    assert serving.host.allowed == []
