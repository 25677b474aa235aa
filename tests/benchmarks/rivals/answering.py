"""What the rivals share: questions come as lines of JSON, and so do answers go back.

The first question names the model and the options, the others hold prompts and labels as token
ids. An answer is the time that asking took, and the log-probability of each label behind each
prompt. Standard library only.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TypeAlias

Ids: TypeAlias = list[list[int]]
Logprobs: TypeAlias = list[list[float]]  # of each label, behind each prompt
Ask: TypeAlias = Callable[[Ids, Ids], Logprobs]


def serve(load: Callable[[str, dict[str, Any]], Ask]) -> None:
    """Loads the model, then answers with what `load` returned."""
    with os.fdopen(int(sys.argv[1])) as questions, os.fdopen(int(sys.argv[2]), "w") as answers:

        def tell(answer: object) -> None:
            print(json.dumps(answer), file=answers, flush=True)

        opening = json.loads(questions.readline())
        ask = load(opening["model"], opening["options"])
        tell({})
        for line in questions:
            question = json.loads(line)
            began = time.perf_counter()
            logprobs = ask(question["prompts"], question["labels"])
            tell({"seconds": time.perf_counter() - began, "logprobs": logprobs})
