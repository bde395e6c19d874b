"""The programs of the peers: each says whose documentation it follows."""

from __future__ import annotations

import pytest
from bench.peers.__main__ import HERE, PEERS, Peer, Skipped, base


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_program_of_a_peer_links_to_the_documentation_that_it_follows(peer: Peer) -> None:
    head = (HERE / "programs" / peer.program).read_text().split("import ")[0]
    assert peer.name == "Replank" or "https://" in head


def test_a_peer_that_needs_a_python_that_is_nowhere_is_skipped_with_the_reason() -> None:
    with pytest.raises(Skipped, match=r"needs Python 3\.99, and neither that nor a newer one"):
        base(Peer("x", "x.py", python=(3, 99)))
