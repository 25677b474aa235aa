"""llama-cpp-python's `Llama` object, asked prompt by prompt with a reset between."""

from typing import Any

import numpy as np
from answering import Ask, Ids, Logprobs, serve


def load(model: str, options: dict[str, Any]) -> Ask:
    import llama_cpp

    llm: Any = llama_cpp.Llama(model, n_ctx=options["max_model_len"], verbose=False)

    def ask(prompts: Ids, labels: Ids) -> Logprobs:
        return [ask_one(prompt, [label[0] for label in labels]) for prompt in prompts]

    def ask_one(prompt: list[int], tokens: list[int]) -> list[float]:
        llm.reset()
        llm.eval(prompt)
        logits = np.ctypeslib.as_array(llm._ctx.get_logits(), shape=(llm.n_vocab(),))
        logits = logits.astype(np.float64)
        total = np.log(np.exp(logits - logits.max()).sum()) + logits.max()
        return [float(logits[token] - total) for token in tokens]

    return ask


if __name__ == "__main__":
    serve(load)
