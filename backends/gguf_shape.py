"""What a GGUF file's head says of how much a model holds of each token.

By the rules of llama.cpp's `llama_hparams`, which defines the keys. Numbers that cannot be are
refused: engines take memory by them.
"""

from __future__ import annotations

from backends.api import BackendError
from backends.gguf import MOST_LAYERS, Head

MOST = 2**31
"""No number of a head is more."""
PLAIN_KINDS = {
    *("gemma", "granite", "llama", "mistral", "olmo", "olmo2", "phi3", "qwen2", "qwen3", "smollm3")
}
"""Kinds of models whose layers all have attention to all tokens, unless a window is stated."""
_GEMMA3N_LAYERS = 20
"""So many hold keys and values, in llama.cpp itself: files of Gemma 3n need not say it."""


class Shape:
    """The values that say how large a cache is. Raises `BackendError` for one that cannot be."""

    def __init__(self, head: Head, name: str) -> None:
        self._metadata = head.values
        self._tensors = head.tensors
        self._name = name
        self._architecture = str(head.values.get("general.architecture"))
        self._layers = self._count("block_count", most=MOST_LAYERS)
        # Layers that hold nothing of their own: the last ones, which foretell further tokens (MTP)
        # and are not evaluated, and before them those that take what earlier layers hold.
        unused = self._count("nextn_predict_layers", default=0, most=self._layers)
        usual = max(self._layers - _GEMMA3N_LAYERS, 0) if self._architecture == "gemma3n" else 0
        self._without = unused + self._count(
            "attention.shared_kv_layers", default=usual, most=self._layers - unused
        )

    @property
    def layers(self) -> int:
        return self._layers

    @property
    def width(self) -> int:
        return self._count("embedding_length")

    @property
    def vocabulary(self) -> int:
        """As many as the embedding has rows: it may be padded."""
        return self._tensors.get("token_embd.weight", 0) // max(self.width, 1)

    @property
    def cached_numbers(self) -> list[tuple[int, int]]:
        """Of a token: numbers of its keys and of its values in each layer with attention that has a
        cache of its own."""
        return [self._layer_numbers(layer) for layer in self._attention_layers()]

    @property
    def attended_numbers(self) -> tuple[int, int]:
        """Of a token in the layer that has most: the numbers of its keys and values, and those of
        all heads, of which several may take the same."""
        found = [(0, 0)]
        for layer in self._attention_layers():
            own = sum(self._layer_numbers(layer))
            found.append((own, own * self._all_heads(layer) // max(self._heads(layer), 1)))
        return max(found)

    @property
    def query_heads(self) -> int:
        """Of the layer that has most."""
        return max(map(self._all_heads, self._attention_layers()), default=0)

    @property
    def has_equal_layers(self) -> bool:
        """Each has attention to all tokens, with keys and values of its own; false where that is
        not known."""
        has_window = "attention.sliding_window" in self._own_keys()
        return self._architecture in PLAIN_KINDS and not has_window

    @property
    def state_numbers(self) -> int:
        """Of a sequence, in all recurrent layers."""
        recurrent = self._recurrent_layers()
        if recurrent <= 0:
            return 0
        width = self.width
        if size := self._count("wkv.head_size", default=0):  # RWKV
            shifted = self._count("token_shift_count", default=2)
            return recurrent * width * (shifted + size)
        if length := self._count("shortconv.l_cache", default=0):  # LFM2
            return recurrent * width * (length - 1)
        kernel = self._count("ssm.conv_kernel", default=1)
        if head := self._count("kda.head_dim", default=0):  # Kimi Delta Attention
            width = head * self._count("attention.head_count")
            return recurrent * (3 * (kernel - 1) * width + head * width)
        inner = self._count("ssm.inner_size", default=0)
        state = self._count("ssm.state_size", default=0)
        groups = self._count("ssm.group_count", default=0)
        return recurrent * ((kernel - 1) * (inner + 2 * groups * state) + state * inner)

    def _recurrent_layers(self) -> int:
        if self._architecture == "falcon-h1":  # each layer has attention beside it
            return self._layers
        others = self._layers - len(self._attention_layers()) - self._without
        if self._architecture.startswith("nemotron_h"):  # a layer may be a feed-forward one alone
            wide = self._metadata.get(f"{self._architecture}.feed_forward_length")
            return others - sum(map(bool, wide)) if isinstance(wide, tuple) else others
        return others

    def _attention_layers(self) -> list[int]:
        interval = self._count("full_attention_interval", default=0)
        own = range(self._layers - self._without)
        if interval:  # of a hybrid: the last of each so many has attention
            return [i for i in own if (i + 1) % interval == 0]
        return [i for i in own if self._heads(i)]

    def _heads(self, layer: int) -> int:
        """0 of a recurrent layer."""
        is_recurrent = self._count("ssm.inner_size", default=0) or self._count(
            "wkv.head_size", default=0
        )
        if "attention.head_count_kv" in self._own_keys():
            return self._count("attention.head_count_kv", layer=layer)
        heads = self._count("attention.head_count", default=0, layer=layer)
        return 0 if is_recurrent and not heads else heads

    def _all_heads(self, layer: int) -> int:
        """Of queries: several may take the keys and values of one."""
        own = self._heads(layer)
        return self._count("attention.head_count", default=own, layer=layer) or own

    def _own_keys(self) -> set[str]:
        begins = f"{self._architecture}."
        return {key.removeprefix(begins) for key in self._metadata if key.startswith(begins)}

    def _layer_numbers(self, layer: int) -> tuple[int, int]:
        heads = self._heads(layer)
        usual = self.width // max(self._all_heads(layer), 1)
        keys = heads * self._head_length("attention.key_length", usual, layer)
        values = heads * self._head_length("attention.value_length", usual, layer)
        # With latent attention (MLA), values are a part of the keys.
        has_latent = {"attention.key_length_mla", "attention.value_length_mla"} <= self._own_keys()
        return keys, 0 if has_latent else values

    def _head_length(self, key: str, usual: int, layer: int) -> int:
        """Layers with a sliding window may have heads of another length."""
        length = self._count(key, default=usual)
        windows = self._metadata.get(f"{self._architecture}.attention.sliding_window_pattern")
        has_window = isinstance(windows, tuple) and any(windows[layer : layer + 1])
        return self._count(f"{key}_swa", default=length) if has_window else length

    def _count(self, key: str, default: int | None = None, most: int = MOST, layer: int = 0) -> int:
        whole = f"{self._architecture}.{key}"
        value = self._metadata.get(whole)
        if isinstance(value, tuple):  # one for each layer
            value = value[layer] if layer < len(value) else None
        if value is None and default is not None:
            return default
        if type(value) is not int or not 0 <= value <= most:
            raise BackendError(
                f"the head of {self._name} says that {whole} is {str(value)[:40]}, which cannot be",
                "Fetch the file again.",
            )
        return value
