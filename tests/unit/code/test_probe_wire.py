"""Frames survive any cut of the stream, and a stream out of step is noticed."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replank.code.probe_wire import (
    Cancel,
    Frames,
    Preload,
    ToServer,
    Verdict,
    frame,
    split_verdict,
    verdict_frame,
)
from replank.errors import InternalError


@given(st.lists(st.integers(0, 2**40)), st.lists(st.integers(1, 20), min_size=1))
def test_frames_are_found_however_the_stream_is_cut(ids: list[int], cuts: list[int]) -> None:
    stream = b"".join(frame(Cancel(number)) for number in ids)
    frames, found, cut = Frames(), [], 0
    while stream:
        size = cuts[cut % len(cuts)]
        found += frames.feed(stream[:size])
        stream, cut = stream[size:], cut + 1
    assert [msgspec.msgpack.decode(body, type=ToServer) for body in found] == [
        Cancel(number) for number in ids
    ]


def test_messages_are_told_apart_by_their_tag() -> None:
    (body,) = Frames().feed(frame(Preload(("json", "wave"))))
    assert msgspec.msgpack.decode(body, type=ToServer) == Preload(("json", "wave"))


def test_a_stream_out_of_step_is_noticed() -> None:
    with pytest.raises(InternalError, match="out of step"):
        Frames().feed(b"\xff\xff\xff\xff")


@given(st.binary(max_size=300), st.booleans())
def test_a_verdict_is_read_when_it_is_complete_and_not_before(report: bytes, waits: bool) -> None:
    data = verdict_frame(Verdict(report, waits))
    assert split_verdict(data) == Verdict(report, waits)
    assert {split_verdict(data[:cut]) for cut in range(len(data))} == {None}


@given(st.binary())
def test_what_a_candidate_writes_in_place_of_a_verdict_is_none(data: bytes) -> None:
    found = split_verdict(b"!" + data)
    assert found is None
