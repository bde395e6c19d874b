from __future__ import annotations

import pytest

from replank.errors import SchemaError
from replank.migration.graph import StepGraph
from replank.migration.steps import Step, convert, remove, step


def clean(start: int, end: int) -> Step:
    return step(start, end, convert("x", int, int))


def lossy(start: int, end: int) -> Step:
    return step(start, end, remove("x"))


def numbers(path: tuple[Step, ...]) -> list[tuple[int, int]]:
    return [(s.start, s.end) for s in path]


def test_the_path_follows_the_steps():
    graph = StepGraph([clean(2, 3), clean(1, 2), clean(3, 4)])
    assert numbers(graph.path(1, 4)) == [(1, 2), (2, 3), (3, 4)]
    assert graph.path(2, 2) == ()


def test_the_shorter_path_is_better():
    graph = StepGraph([clean(1, 2), clean(2, 3), clean(1, 3)])
    assert numbers(graph.path(1, 3)) == [(1, 3)]


def test_a_longer_path_without_loss_is_better_than_a_lossy_short_cut():
    graph = StepGraph([clean(1, 2), clean(2, 3), lossy(1, 3)])
    assert numbers(graph.path(1, 3)) == [(1, 2), (2, 3)]


def test_two_equally_good_paths_are_an_error():
    graph = StepGraph([clean(1, 2), clean(2, 4), clean(1, 3), clean(3, 4)], module="ledger")
    with pytest.raises(SchemaError, match="two equally good ways") as caught:
        graph.path(1, 4)
    assert caught.value.found == "1 -> 2 -> 4 and 1 -> 3 -> 4"


def test_ambiguity_before_a_detour_that_is_not_taken_is_no_error():
    graph = StepGraph([clean(1, 2), clean(2, 4), clean(1, 3), clean(3, 4), clean(1, 4)])
    assert numbers(graph.path(1, 4)) == [(1, 4)]


def test_a_gap_names_the_missing_step():
    with pytest.raises(SchemaError, match="no steps lead from schema 1 to 3") as caught:
        StepGraph([clean(1, 2)]).path(1, 3)
    assert caught.value.do == "write step(2, 3, ...)"
    assert caught.value.found == "steps 1 -> 2"


def test_steps_beyond_the_goal_are_not_taken():
    with pytest.raises(SchemaError, match="no steps lead"):
        StepGraph([clean(1, 5)]).path(1, 3)


def test_two_steps_between_the_same_numbers_are_an_error():
    with pytest.raises(SchemaError, match="two steps lead from schema 1 to 2"):
        StepGraph([clean(1, 2), lossy(1, 2)])


def test_what_is_no_step_is_refused():
    with pytest.raises(SchemaError, match="no step"):
        StepGraph(["step"])  # type: ignore[list-item]
