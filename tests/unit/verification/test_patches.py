"""What a candidate's import replaces in other modules is found by name, and put back."""

from __future__ import annotations

import json
import posixpath
import sys
import types

from replank.verification.ownership import Owner
from replank.verification.patches import (
    callables_now,
    imported_by,
    patched,
    place_changes,
    read_places,
    untouched,
)


def test_the_modules_that_a_source_imports_are_found() -> None:
    text = "import os.path as p, sys\nfrom json import dumps\n  import re\nfrom . import x\nx = 'import'"
    assert imported_by([text]) == {"builtins", "os.path", "json", "re", "."}


def test_what_is_replaced_removed_or_put_there_is_named(monkeypatch) -> None:
    names = ["json", "os", "replank_tested_later"]
    before = callables_now(names)
    assert patched(names, before, Owner(["shop@1"])) == ()
    monkeypatch.setattr(json, "dumps", str)
    monkeypatch.delattr(json, "loads")
    monkeypatch.setattr(posixpath, "join", str)  # it stands in os
    monkeypatch.setattr(json, "theirs", str, raising=False)  # a library's own affair
    own = types.FunctionType((lambda: 0).__code__, {"__name__": "shop@1"})
    later = types.ModuleType("replank_tested_later")
    later.own, later.theirs = own, str  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "replank_tested_later", later)
    assert patched(names, before, Owner(["shop@1"])) == (
        "json.dumps",
        "json.loads",
        "posixpath.join",
        "replank_tested_later.own",
    )


def test_a_place_is_put_back_unless_somebody_else_has_written_there_since(monkeypatch) -> None:
    monkeypatch.setattr(json, "tested", str, raising=False)
    monkeypatch.setattr(json, "other", str, raising=False)
    before = read_places(["json.tested", "json.other", "json.new", "replank_no_such.x"])
    assert list(place_changes(before)) == []
    json.tested, json.other, json.new = int, int, int  # type: ignore[attr-defined]
    changes = {one.text: one for one in place_changes(before)}
    assert all(one.stands() for one in changes.values())
    json.other = float  # type: ignore[attr-defined]
    assert changes["json.tested"].put_back()
    assert changes["json.new"].put_back()
    assert not changes["json.other"].put_back()
    assert json.tested is str  # type: ignore[attr-defined]
    assert not hasattr(json, "new")


def test_whatever_is_put_into_a_module_is_noticed(monkeypatch) -> None:
    names = ["json", "os"]
    before = callables_now(names)
    assert untouched(names, before)
    monkeypatch.setattr(posixpath, "flag", 1, raising=False)  # it stands in os
    assert not untouched(names, before)
    assert patched(names, before, Owner(["shop@1"])) == ()
    before = callables_now(names)
    monkeypatch.setattr(posixpath, "flag", 2)
    assert not untouched(names, before)
