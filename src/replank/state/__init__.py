"""The state of modules: trees, snapshots, and the window in which it moves."""
