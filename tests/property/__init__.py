"""State machines: Hypothesis chooses what happens, and what must always hold is checked after each step."""
