from types import SimpleNamespace

import msgspec
import pytest

from replank.migration.steps import add, convert, merge, rekey, remove, rename, split, step
from replank.schema import read_schema
from replank.state.names import Namespace
from replank.table import Table
from replank.verification.cases import Case, generated_cases
from replank.verification.laws import check_laws


class Old(msgspec.Struct):
    owner: str
    cents: int = 0


class New(msgspec.Struct):
    owner: str
    amount: int = 0
    tier: str = "basic"


def shape(version, hints, defaults=None):
    return read_schema(hints, defaults or {}, version=version, where="books")[0]


def target(hints, *steps, defaults=None, version=2, functions=None):
    definition = SimpleNamespace(
        name="books",
        schema=shape(version, hints, defaults),
        hints=hints,
        migrations=steps,
        functions=functions or {},
    )
    return SimpleNamespace(definition=definition, own=Namespace(None))


def check(code, *schemas, count=40):
    notes = []
    return check_laws(code, generated_cases(code, schemas, count, 0, notes), notes)


OLD = shape(1, {"accounts": Table[str, Old], "total": int})
HINTS = {"accounts": Table[str, New], "total": int}
GOOD = step(1, 2, rename("accounts.*.cents", "amount"), add("accounts.*.tier", default="gold"))


def test_good_steps_keep_the_laws():
    report = check(target(HINTS, GOOD), OLD)
    assert report.ok
    assert report.states == {"1": 40}
    assert not report.findings


SPLIT = {"accounts": Table[str, New], "a": int, "b": int}
MERGED = {"accounts": Table[str, New], "a": int}
BACK = "down(up(x)) == x"


@pytest.mark.parametrize(
    ("operation", "hints", "law"),
    [
        (convert("total", lambda v: v + 1, lambda v: v - 2), HINTS, BACK),
        (convert("total", lambda v: v // 2, lambda v: v * 2), HINTS, BACK),
        (convert("total", lambda v: v, lambda v: 1 / 0), HINTS, BACK),
        (rekey("accounts", lambda k: k + "!", lambda k: k), HINTS, BACK),
        (split("total", ["a", "b"], lambda v: (v, 1), lambda a, b: a + b), SPLIT, BACK),
        (merge("", ["total"], "a", lambda v: v, lambda v: (v + 1,)), MERGED, BACK),
        (convert("total", str, int), HINTS, "up(x) fits the types"),
        (convert("total", lambda v: 1 / 0, int), HINTS, "up(x) succeeds"),
    ],
)
def test_a_wrong_operation_breaks_its_law_and_is_named_with_its_place(operation, hints, law):
    report = check(target(hints, step(1, 2, *GOOD.operations, operation)), OLD)
    assert not report.ok
    finding = report.findings[0]
    assert finding.law == law
    assert "generated" in finding.state
    assert finding.place
    assert finding.old
    assert finding.new


def test_the_operation_that_does_not_undo_itself_is_found_among_others():
    wrong = convert("accounts.*.amount", lambda v: v * 2, lambda v: v)
    report = check(target(HINTS, step(1, 2, *GOOD.operations, wrong)), OLD)
    finding = report.findings[0]
    assert finding.step == "step 1 -> 2 (convert accounts.*.amount)"
    assert finding.place.startswith("accounts[")
    assert finding.place.endswith(".cents")
    assert int(finding.new) == int(finding.old) * 2


def test_a_step_that_says_it_is_lossy_need_not_undo_itself():
    lossy = convert("total", lambda v: v // 2, lambda v: v * 2, lossy=True)
    assert check(target(HINTS, step(1, 2, *GOOD.operations, lossy)), OLD).ok


def test_a_removed_field_comes_back_by_what_was_parked():
    new = {"accounts": Table[str, New]}
    assert check(target(new, step(1, 2, *GOOD.operations, remove("total"))), OLD).ok


def test_a_pair_of_functions_has_to_undo_itself():
    def up(old):
        return {"accounts": {}, "total": old["total"]}

    report = check(target(HINTS, step(1, 2, up, dict)), OLD)
    assert [finding.law for finding in report.findings][:1] == ["down(up(x)) == x"]


def test_a_function_that_changes_the_old_state_is_found():
    def up(old):
        old["total"] = 0
        return old

    report = check(target({"total": int}, step(1, 2, up)), shape(1, {"total": int}))
    assert "changed the old state" in report.findings[0].text


def test_a_step_without_a_way_down_is_checked_upwards_and_noted():
    one_way = convert("total", lambda v: v)
    report = check(target(HINTS, step(1, 2, *GOOD.operations, one_way)), OLD)
    assert report.ok
    assert any("no way down" in note for note in report.notes)


def test_a_shape_that_no_step_leads_from_is_a_finding():
    report = check(target({"sum": int}, version=2), shape(1, {"total": int}))
    assert report.findings[0].law == "there is a path"


def test_without_a_known_shape_states_are_made_by_the_way_down():
    report = check(target(HINTS, GOOD))
    assert report.states == {"1": 40}
    assert report.ok
    wrong = convert("total", lambda v: v + 1, lambda v: v)
    assert not check(target(HINTS, step(1, 2, *GOOD.operations, wrong))).ok


def test_a_state_that_was_given_is_checked_as_it_is():
    code = target(HINTS, step(1, 2, *GOOD.operations, convert("total", lambda v: 10 // v, int)))
    good = Case(OLD, {"accounts": {}, "total": 0}, "recorded")
    report = check_laws(code, [good], [])
    assert report.findings[0].state == "recorded"
    assert report.findings[0].place == "total"
    assert "ZeroDivisionError" in report.findings[0].text


def test_what_only_the_new_version_wrote_survives_down_and_up():
    forgetful = step(
        1,
        2,
        lambda old: {**old, "note": "x"},
        lambda new: {"total": new["total"]},
    )
    code = target({"total": int, "note": str}, forgetful, defaults={"note": ""})
    case = Case(shape(1, {"total": int}), {"total": 1}, "recorded")
    # The pair gives "x" back whatever was written, and nothing says that it should not: it is a
    # function of the whole state, whose new fields nobody knows.
    assert check_laws(code, [case], []).ok
    added = target({"total": int, "note": str}, step(1, 2, add("note", default="x")))
    assert check_laws(added, [case], []).ok


def test_alike_findings_are_counted_not_listed():
    wrong = convert("total", lambda v: v + 1, lambda v: v)
    report = check(target(HINTS, step(1, 2, *GOOD.operations, wrong)), OLD)
    assert len(report.findings) == 3
    assert any("more like these" in note for note in report.notes)
