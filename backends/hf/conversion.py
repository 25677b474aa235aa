"""What is in a GGUF file, in transformers' own form.

transformers de-quantises the weights and rebuilds the tokenizer. What it leaves out or does
otherwise than llama.cpp is put right here, so that engines are given the same tokens and end at the
same ones: the token that goes first, where digits are cut, which tokens end a reply. The rules are
those of llama.cpp's `src/llama-vocab.cpp`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from backends.api import BackendError
from backends.gguf import parts_of, read_metadata, tensor_sizes
from backends.hf.loading import load_whole
from backends.hf.rope import TENSOR, llama3_parameters

VERSION = 3
"""Raise it with any change of what is written here: each version has folders of its own."""

# fmt: off
# Values of `tokenizer.ggml.model`, and of `tokenizer.ggml.pre`, with which llama.cpp adds a BOS if
# the file does not say whether to.
_BOS_MODELS = {"llama", "bert"}
_BOS_PRE_TOKENIZERS = {
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
    "jina-v5-nano", "tekken", "chameleon",
}
_DIGIT_PRE_TOKENIZERS = {
    "starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2",
}
_ENDS = {
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
    "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
    "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "[e~[",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
    # padding, a repository's name and the gap between files, of models that fill in the middle
    "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>", "<|repo_name|>",
    "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>",
}
# fmt: on
# Exceptions of llama.cpp, in order: for the tokenizer o200k_harmony (gpt-oss), for Solar Open, for
# Gemma 4 and PaddleOCR.
_NO_END_BESIDE = (
    ("<|end|>", {"<|return|>", "<|call|>"}),
    ("<|end|>", {"<|calls|>", "<|flush|>"}),
    ("</s>", {"<|tool_response>"}),
)


def convert_tokenizer(source: Path, target: Path) -> None:
    """Writes the tokenizer into the folder `target`. Reads no weights."""
    metadata = read_metadata(source)
    with _alone([source], target) as alone:
        tokenizer = _tokenizer(alone, metadata)
    ends = end_ids(tokenizer.get_vocab(), metadata)
    # Special tokens are left out of the text of a reply. llama.cpp makes all ends special too.
    tokenizer.backend_tokenizer.add_special_tokens(tokenizer.convert_ids_to_tokens(ends))
    tokenizer.save_pretrained(target)


def convert(source: Path, target: Path) -> None:
    """Writes configuration and weights into the folder `target`, which has the tokenizer."""
    from transformers import PreTrainedTokenizerFast

    plain: Any = PreTrainedTokenizerFast
    vocabulary = plain.from_pretrained(target).get_vocab()
    with _alone(parts_of(source), target) as alone:
        model = _model(alone)
    # Saved with the model, where `HfContext` finds them.
    model.generation_config.eos_token_id = end_ids(vocabulary, read_metadata(source))
    model.save_pretrained(target)


@contextmanager
def _alone(parts: list[Path], target: Path) -> Iterator[Path]:
    """The model's one file, in a folder of its own: transformers is given a folder, and would take
    the tokenizer of whatever model lies in it. It goes where there is room for what is made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".alone-", dir=target.parent) as folder:
        alone = Path(folder) / "model.gguf"
        if len(parts) > 1:
            _merge(parts, alone)
        else:
            alone.symlink_to(parts[0].absolute())
        yield alone


def _merge(parts: list[Path], whole: Path) -> None:
    """One file of several, which transformers does not put together. The first has the head."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter

    readers = [GGUFReader(part) for part in parts]
    head = readers[0].fields
    tensors = [tensor for reader in readers for tensor in reader.tensors]
    declared = head.get("split.tensors.count")
    if declared and int(declared.contents()) != len(tensors):
        raise BackendError(
            f"the {len(parts)} files of {parts[0].name} hold {len(tensors)} tensors and not the "
            f"{declared.contents()} that they should",
            "Fetch all of them again, from one place.",
        )
    architecture = head["general.architecture"].contents()
    writer = GGUFWriter(whole, architecture)
    for name, field in head.items():
        # the writer has written the architecture, and the file is not split any more
        if not name.startswith(("GGUF.", "split.")) and name != "general.architecture":
            [kind, *items] = field.types
            inner = items[-1] if kind == GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), kind, sub_type=inner)
    for tensor in tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def adds_bos(metadata: Mapping[str, Any]) -> bool:
    """Whether the model wants its beginning-of-sequence token first."""
    kind = metadata.get("tokenizer.ggml.model")
    if kind == "gemma4":  # whatever the file says, as in llama.cpp
        return True
    pre_tokenizer = metadata.get("tokenizer.ggml.pre")
    usual = kind in _BOS_MODELS or pre_tokenizer in _BOS_PRE_TOKENIZERS
    return bool(metadata.get("tokenizer.ggml.add_bos_token", usual))


def end_ids(vocabulary: Mapping[str, int], metadata: Mapping[str, Any]) -> list[int]:
    """The tokens that end a reply: those that the file names, and those with a telling text."""
    found = _ENDS & vocabulary.keys()
    for end, others in _NO_END_BESIDE:
        if others <= found:
            found -= {end}
    named = (metadata.get(f"tokenizer.ggml.{end}_token_id") for end in ("eos", "eot", "eom"))
    return sorted({vocabulary[text] for text in found} | {id_ for id_ in named if id_ is not None})


def _model(source: Path) -> Any:
    """The weights go to bfloat16, which is closer than the file's own rounding to a few bits."""
    import torch

    model = load_whole("the GGUF file", **_file(source), dtype=torch.float32)
    positions = _positions(source, model.config)
    _check_read_whole(source, model, {TENSOR} if positions else set())
    return _plain(model, positions).to(torch.bfloat16)


def _positions(source: Path, config: Any) -> Mapping[str, Any]:
    """What transformers does not read of how a model's positions are scaled, in its own
    parameters; empty where there is nothing, or nothing that it could do the same with."""
    if TENSOR not in tensor_sizes(source):
        return {}
    from gguf import GGUFReader

    [tensor] = [one for one in GGUFReader(source).tensors if one.name == TENSOR]
    # Of models with several kinds of layers, there are parameters for each kind.
    given = getattr(config, "rope_parameters", None) or {}
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if given.keys() != {"rope_type", "rope_theta"} or 2 * len(tensor.data) != width:
        return {}
    found = llama3_parameters(tensor.data.astype(float), given["rope_theta"])
    return {} if found is None else {"rope_parameters": found}


def _check_read_whole(source: Path, model: Any, read: Collection[str]) -> None:
    """Refuses a file that holds more than the model took: transformers leaves out, without a word,
    tensors that it has no name for, such as biases. `read` are those that were read here."""
    # Their numbers are counted: one tensor has different names in the file and in transformers.
    sizes = {name: size for name, size in tensor_sizes(source).items() if name not in read}
    unread = sum(sizes.values()) - sum(weight.numel() for weight in model.parameters())
    if unread > 0:
        likely = [name for name in sizes if name.startswith("rope") or not name.endswith(".weight")]
        raise BackendError(
            f"the GGUF file holds {unread} numbers that transformers leaves out "
            f"({', '.join(likely[:3] or list(sizes)[:3])})",
            "Give this engine the model as a folder or a hub name, in the config's "
            '[models.NAME] table: hf = "...".',
        )


def _plain(model: Any, positions: Mapping[str, Any]) -> Any:
    """The same model under a config that has its positions, and that does not say it is
    quantized: saving refuses that."""
    values = {**model.config.to_dict(), **positions}
    values.pop("quantization_config", None)
    plain = type(model)(type(model.config)(**values))
    plain.load_state_dict(model.state_dict())
    return plain


def _tokenizer(source: Path, metadata: Mapping[str, Any]) -> Any:
    """A plain tokenizer: those of single models rebuild, on loading, some of what is set here."""
    import transformers

    plain: Any = transformers.PreTrainedTokenizerFast
    made = plain.from_pretrained(**_file(source))
    backend = made.backend_tokenizer
    if metadata.get("tokenizer.ggml.pre") in _DIGIT_PRE_TOKENIZERS:
        backend.pre_tokenizer = _digits_apart()
    backend.post_processor = _beginning(made, adds_bos(metadata))
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    return plain(
        tokenizer_object=backend,
        chat_template=made.chat_template,
        **{name: getattr(made, name) for name in names},
    )


def _digits_apart() -> Any:
    """Each digit for itself, the rest cut as GPT-2 does."""
    from tokenizers.pre_tokenizers import ByteLevel, Digits
    from tokenizers.pre_tokenizers import Sequence as InTurn

    return InTurn([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])


def _beginning(tokenizer: Any, with_bos: bool) -> Any:
    """What goes before a text when special tokens are added."""
    from tokenizers.processors import TemplateProcessing

    bos = [(tokenizer.bos_token, tokenizer.bos_token_id)]
    first = bos if with_bos and tokenizer.bos_token_id is not None else []
    texts = [text for text, _ in first]
    return TemplateProcessing([*texts, "$A"], [*texts, "$A", *texts, "$B:1"], first)


def _file(source: Path) -> Mapping[str, Any]:
    return {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
