"""Traffic: the gate of each module, the calls in flight and waiting, and the messages."""
