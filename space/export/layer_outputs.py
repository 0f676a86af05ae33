"""What the layers of an exported ONNX file give, read from the names its operators carry."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray


def layer_outputs(path: Path, layers: int, values: NDArray[Any]) -> Sequence[NDArray[Any]] | None:
    """Of every layer in the order they run, for one input; None where the file does not tell them apart."""
    import onnxruntime

    model = onnx.load(path)
    names = list(_last_outputs(model.graph))
    if len(names) != layers:
        return None
    for name in names:
        if all(output.name != name for output in model.graph.output):
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: Sequence[NDArray[Any]] = session.run(names, {session.get_inputs()[0].name: values})
    return found


def _last_outputs(graph: Any) -> Iterator[str]:
    """What the last operator of every run of one block gives; operators carry their module's name."""
    named = [node for node in graph.node if node.name.count("/") > 1]
    for scope, nodes in groupby(named, key=lambda node: node.name.split("/")[1]):
        if scope.startswith("blocks."):
            yield [node.output[0] for node in nodes][-1]
