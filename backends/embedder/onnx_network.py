"""EfficientNet-Lite0 for ONNX Runtime: on a CPU it takes about half the time of torch.

The graph is written here, out of the network whose batch norms are folded, and loaded from memory:
torch's own export needs more packages, and takes longer than most folders of images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from backends.embedder.api import LAST

_OPSET = 17  # of March 2022: every ONNX Runtime that runs on Python 3.11 knows it
_IMAGES, _VECTORS = "images", "vectors"


class OnnxNetwork:
    """A folded network up to the means of some layers. Computes in float32 on the CPU."""

    def __init__(self, network: Any, layers: tuple[str, ...], size: int, threads: int) -> None:
        self.engine = f"onnxruntime {onnxruntime.__version__}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that wait by spinning take the processors from others, and from each other.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            _model(network, layers, size), options, providers=["CPUExecutionProvider"]
        )

    def vectors(self, images: torch.Tensor) -> torch.Tensor:
        """Float32 (n, d) of float32 (n, 3, size, size)."""
        [found] = self._session.run([_VECTORS], {_IMAGES: images.numpy()})
        return torch.from_numpy(found)


def _model(network: Any, layers: tuple[str, ...], size: int) -> bytes:
    graph = _Graph()
    found = graph.every_layer(network)
    means = [graph.add("GlobalAveragePool", [found[layer]]) for layer in layers]
    flat = [graph.add("Flatten", [mean]) for mean in means]
    graph.nodes.append(helper.make_node("Concat", flat, [_VECTORS], axis=1))
    given = _described(_IMAGES, ["n", 3, size, size])
    made = _described(_VECTORS, ["n", "d"])
    whole = helper.make_graph(graph.nodes, "network", [given], [made], graph.weights)
    # With the version of the file format that belongs to the operations; otherwise it is that of
    # `onnx`, which may be newer than what the runtime reads.
    model = helper.make_model_gen_version(whole, opset_imports=[helper.make_opsetid("", _OPSET)])
    return bytes(model.SerializeToString())


def _described(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


class _Graph:
    """Nodes and weights as they are added; a value is called by its name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._least = self._constant("least", np.float32(0))
        self._most = self._constant("most", np.float32(6))

    def every_layer(self, network: Any) -> dict[str, str]:
        """The name of what each layer gives; "0" is the stem."""
        x = self._relu6(self._convolution(_IMAGES, network._conv_stem))
        found = {"0": x}
        for number, block in enumerate(network._blocks, start=1):
            x = found[str(number)] = self._block(x, block)
        found[LAST] = self._relu6(self._convolution(x, network._conv_head))
        return found

    def _block(self, x: str, block: Any) -> str:
        widened = x
        if hasattr(block, "_expand_conv"):
            widened = self._relu6(self._convolution(x, block._expand_conv))
        filtered = self._relu6(self._convolution(widened, block._depthwise_conv))
        y = self._convolution(filtered, block._project_conv)
        given = block._block_args
        same = given.stride == 1 and given.input_filters == given.output_filters
        return self.add("Add", [y, x]) if given.id_skip and same else y

    def _convolution(self, x: str, layer: Any) -> str:
        # Its padding is a layer of its own in front, or none.
        padding = getattr(layer.static_padding, "padding", (0, 0, 0, 0))
        left, right, top, bottom = padding
        name = f"convolution{len(self.nodes)}"
        weight = self._constant(f"{name}.weight", layer.weight.detach().contiguous().numpy())
        bias = self._constant(f"{name}.bias", layer.bias.detach().numpy())
        return self.add(
            "Conv",
            [x, weight, bias],
            strides=list(layer.stride),
            pads=[top, left, bottom, right],
            group=layer.groups,
        )

    def _relu6(self, x: str) -> str:
        return self.add("Clip", [x, self._least, self._most])

    def _constant(self, name: str, value: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, operation: str, given: list[str], **attributes: Any) -> str:
        name = f"{operation}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, given, [name], **attributes))
        return name
