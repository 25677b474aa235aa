"""How a test suite holds runs to limits: the pytest plugin, its gate, and what it saves."""
