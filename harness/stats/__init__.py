"""Is it a difference: tests, intervals and change points. Pure functions over arrays."""
