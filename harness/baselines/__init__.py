"""What a model is compared with: classifiers without a language model, over the same queries.

All are listed in `harness.baselines.registry`.
"""

from harness.baselines.kind import Shown
from harness.baselines.run import run_baselines

__all__ = ["Shown", "run_baselines"]
