"""lm-evaluation-harness with its HF model: bfloat16, batch size 4, the same token ids.

Its own method for token ids is asked, with the labels as continuations; it sorts, batches and
scores labels of one token behind one prompt together.
"""

import os
from typing import Any

from answering import Ask, Ids, Logprobs, serve

BATCH_SIZE = 4


def load(model: str, options: dict[str, Any]) -> Ask:
    os.environ["HF_HUB_OFFLINE"] = "1"
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(
        pretrained=model, dtype=options["dtype"], batch_size=BATCH_SIZE, device=options["device"]
    )

    def ask(prompts: Ids, labels: Ids) -> Logprobs:
        requests = [(("", ""), prompt, label) for prompt in prompts for label in labels]
        found = [logprob for logprob, _ in lm._loglikelihood_tokens(requests, disable_tqdm=True)]
        return [found[i : i + len(labels)] for i in range(0, len(found), len(labels))]

    return ask


if __name__ == "__main__":
    serve(load)
