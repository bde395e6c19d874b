"""Any bytes at all as a call's arguments: they bind to the call, or are refused with a reason."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from replank.control.arguments import CallReader
from replank.errors import WrongArguments
from tests.unit.control.fake_host import LEDGER, load

CALLS = load(LEDGER)[1].calls
NAMES = ["owner", "cents", "order", "note", "a", "b", "c", "to", "args", "p0", "self", ""]

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=8,
)
bodies = values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40)


@settings(deadline=None)
@given(call=st.sampled_from(sorted(CALLS)), body=bodies)
def test_what_is_read_binds_and_what_does_not_bind_is_refused(call, body):
    reader = CallReader("ledger", CALLS[call])
    refused = None
    try:
        args, kwargs = reader.read(body)
    except WrongArguments as error:
        refused = error
    if refused is None:
        CALLS[call].signature.bind(*args, **kwargs)
    else:
        assert refused.path.startswith("$")
        assert refused.reason


@given(owner=st.text(), cents=st.integers(-(2**63), 2**64 - 1))
def test_an_object_and_an_array_mean_the_same(owner, cents):
    reader = CallReader("ledger", CALLS["deposit"])
    _, named = reader.read(json.dumps({"cents": cents, "owner": owner}).encode())
    placed, _ = reader.read(json.dumps([owner, cents]).encode())
    assert named == {"owner": owner, "cents": cents}
    assert placed == (owner, cents)
