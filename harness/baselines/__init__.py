"""What a model is compared with: classifiers without a language model, over the same queries.

Each is a module that is listed in `harness.baselines.run`.
"""

from harness.baselines.kind import ShownNumbers
from harness.baselines.run import run_baselines

__all__ = ["ShownNumbers", "run_baselines"]
