"""What all tests share: property tests are not timed, and run the same way each time."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("harness", deadline=None, derandomize=True)
settings.load_profile("harness")
