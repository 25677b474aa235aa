"""vLLM's `LLM.generate`, given all requests at once, with the settings of the backend."""

import os
from typing import Any

from answering import Ask, Ids, Logprobs, serve


def load(model: str, options: dict[str, Any]) -> Ask:
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from vllm import LLM, SamplingParams

    llm = LLM(
        model,
        dtype=options["dtype"],
        max_model_len=options["max_model_len"],
        block_size=32,
        kv_cache_memory_bytes=2 * 2**30,
        enforce_eager=options.get("enforce_eager", False),
        enable_prefix_caching=True,
    )

    def ask(prompts: Ids, labels: Ids) -> Logprobs:
        first = [label[0] for label in labels]
        asked = [{"prompt_token_ids": prompt} for prompt in prompts]
        parameters = SamplingParams(temperature=0, max_tokens=1, logprob_token_ids=first)
        outputs = llm.generate(asked, parameters, use_tqdm=False)
        found = [output.outputs[0].logprobs[0] for output in outputs]
        return [[one[token].logprob for token in first] for one in found]

    return ask


if __name__ == "__main__":
    serve(load)
