"""The suite that is shipped, over every backend that is registered, with a model of ours."""

from harness.testing.conformance.test_contract import *  # noqa: F403
