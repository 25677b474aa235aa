"""The engines, behind one small contract (`backends.api`). Imports nothing of `harness`."""
