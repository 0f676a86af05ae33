"""A program that imports this project's packages reports its use to nobody."""

import os
import subprocess
import sys
from pathlib import Path

from onnx import TensorProto, helper, save

PROGRAM = """
import sys
import space.errors
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
session.run(None, {"x": numpy.ones(1, numpy.float32)})
"""


def test_onnx_runtime_keeps_no_record_of_its_use(tmp_path: Path) -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, tmp_path / "relu.onnx")
    home = tmp_path / "home"
    home.mkdir()
    names = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {key: value for key, value in os.environ.items() if key not in names}
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "relu.onnx")],
        env=environment | {"HOME": str(home)}, check=True, timeout=60,
    )  # fmt: skip
    assert list(home.rglob("*")) == []
