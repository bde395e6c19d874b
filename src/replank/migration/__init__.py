"""Steps between two shapes of a state, and the engine that runs them."""
