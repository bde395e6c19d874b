"""The test kit: a simulated event loop, a journal in memory, and a checker of histories."""
