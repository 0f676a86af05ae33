"""ONNX files: equal to the model at every length and batch, int8 only where asked, always the same bytes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from space.architecture import Architecture, parse_architecture
from space.errors import UnsupportedError
from space.export import export_onnx, input_name, input_shape
from space.model import build_model
from space.number_formats import apply_number_formats
from space.quantization import NumberFormat, number_format

Factory = Callable[..., Architecture]


def inputs(architecture: Architecture, batch: int, tokens: int) -> NDArray[np.generic]:
    rng = np.random.default_rng(batch * 100 + tokens)
    shape = input_shape(architecture, batch, tokens)
    if architecture.interface.input == "bytes":
        return rng.integers(0, 256, size=shape, dtype=np.int64)
    return rng.standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("model", ["decoder", "encoder", "vision"])
def test_a_file_gives_the_models_logits_at_every_length_and_batch(
    model: str, make: Factory, tmp_path: Path
) -> None:
    architecture = make(model)
    module = build_model(architecture, seed=0).eval()
    session = onnxruntime.InferenceSession(export_onnx(module, architecture, tmp_path / "m.onnx"))
    assert [i.name for i in session.get_inputs()] == [input_name(architecture)]
    assert [o.name for o in session.get_outputs()] == ["logits"]
    for batch in (1, 3):
        for tokens in (16,) if model == "vision" else (1, 7, 16):
            x = inputs(architecture, batch, tokens)
            with torch.no_grad():
                expected = module(torch.from_numpy(x)).numpy()
            (found,) = session.run(None, {input_name(architecture): x})
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("formats", "quantized"),
    [(("fp32", "fp32"), set()), (("int8_dynamic", "fp32"), {0}), (("int8_dynamic",) * 2, {0, 1})],
)
def test_int8_stands_in_the_layers_that_ask_for_it_and_nowhere_else(
    formats: tuple[str, str], quantized: set[int], make: Factory, tmp_path: Path
) -> None:
    architecture = make("decoder", formats)
    path = export_onnx(build_model(architecture, seed=0), architecture, tmp_path / "m.onnx")
    nodes = onnx.load(path).graph.node
    integer = [node.name for node in nodes if node.op_type == "MatMulInteger"]
    assert {int(name.split("/")[1].removeprefix("blocks.")) for name in integer} == quantized
    assert len(integer) == 4 * len(quantized)  # qkv, out, gate and up, down
    assert all(
        weight.data_type != onnx.TensorProto.INT8 or quantized for weight in onnx.load(path).graph.initializer
    )


def test_int8_logits_are_near_the_models(make: Factory, tmp_path: Path) -> None:
    """Root mean square of the difference under 10 % of the logits': 8 bits, two layers; 1 to 3 % is usual."""
    architecture = make("decoder", ("int8_dynamic",) * 2)
    module = build_model(architecture, seed=0).eval()
    session = onnxruntime.InferenceSession(export_onnx(module, architecture, tmp_path / "m.onnx"))
    x = inputs(architecture, 2, 16)
    (found,) = session.run(None, {"tokens": x})
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    difference = np.sqrt(np.mean((found - expected) ** 2)) / np.sqrt(np.mean(expected**2))
    assert 0 < difference < 0.10


@pytest.mark.parametrize("formats", [("int4_g32", "int4_g64"), ("fp32", "int4_g32"), ("int4_g64",) * 2])
def test_packed_four_bit_products_give_what_eager_torch_gives(
    formats: tuple[str, str], make: Factory, tmp_path: Path
) -> None:
    """Up to the order of float32 sums, at every length; 32 and 64 inputs: whole groups and half a group."""
    architecture = make("decoder", formats)
    module = build_model(architecture, seed=0).eval()
    path = export_onnx(module, architecture, tmp_path / "m.onnx")
    nodes = [node for node in onnx.load(path).graph.node if node.op_type == "MatMulNBits"]
    sizes = [onnx.helper.get_node_attr_value(node, "block_size") for node in nodes]
    assert sizes == [int(form.removeprefix("int4_g")) for form in formats if form != "fp32" for _ in range(4)]
    eager, session = apply_number_formats(module, architecture), onnxruntime.InferenceSession(path)
    for batch, tokens in ((1, 1), (3, 7), (1, 16)):
        x = inputs(architecture, batch, tokens)
        with torch.no_grad():
            expected, trained = (m(torch.from_numpy(x)).numpy() for m in (eager, module))
        (found,) = session.run(None, {"tokens": x})
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
        assert np.abs(expected - trained).max() > 100 * np.abs(found - expected).max()


@pytest.mark.parametrize("form", ["int4_g32", "int4_g64"])
def test_products_in_a_file_take_the_bytes_of_the_formula(
    form: NumberFormat, make: Factory, tmp_path: Path
) -> None:
    architecture = make("decoder", (form,))
    graph = onnx.load(export_onnx(build_model(architecture, seed=0), architecture, tmp_path / "m.onnx")).graph
    constants = {weight.name: onnx.numpy_helper.to_array(weight) for weight in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMulNBits"]
    for node in products:
        inputs_, outputs = (onnx.helper.get_node_attr_value(node, name) for name in "KN")
        stored = sum(constants[name].nbytes for name in node.input[1:])
        assert stored == inputs_ * outputs * number_format(form).bits_per_weight(inputs_) / 8
    assert len(products) == 4


def outlier_model(architecture: Architecture) -> nn.Module:
    """One channel of 32 is large in what the feed-forward reads."""
    module = build_model(architecture, seed=0).eval()
    with torch.no_grad():
        for block in module.blocks:
            block.get_submodule("feed_forward_norm").get_parameter("gain")[5] = 40.0
    return module


def test_frozen_outliers_are_a_float_product_and_save_accuracy(make: Factory, tmp_path: Path) -> None:
    """Against the eager form with the same outliers, and closer to the model than int8_dynamic at three
    lengths."""
    architecture = make("decoder", ("int8_mixed",) * 2)
    module = outlier_model(architecture)
    seen = torch.from_numpy(inputs(architecture, 4, 16))
    frozen = export_onnx(module, architecture, tmp_path / "frozen.onnx", calibration=seen)
    gathers = [node for node in onnx.load(frozen).graph.node if "gate_up" in node.name]
    assert sorted(
        node.op_type for node in gathers if node.op_type in ("Gather", "MatMul", "MatMulInteger")
    ) == (["Gather"] * 2 + ["MatMul"] * 2 + ["MatMulInteger"] * 2)
    plain = export_onnx(module, architecture.with_number_format("int8_dynamic"), tmp_path / "plain.onnx")
    eager = apply_number_formats(module, architecture, calibration=seen)
    sessions = [onnxruntime.InferenceSession(path) for path in (frozen, plain)]
    for tokens in (1, 7, 16):
        x = inputs(architecture, 4, tokens)
        with torch.no_grad():
            exact, expected = (m(torch.from_numpy(x)).numpy() for m in (module, eager))
        found, without = (session.run(None, {"tokens": x})[0] for session in sessions)
        # uint8 per tensor here, int8 per token there: as far apart as two roundings of one model
        assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(exact)
        assert np.linalg.norm(found - exact) < np.linalg.norm(without - exact)


def test_without_a_calibration_int8_mixed_is_int8_dynamic(make: Factory, tmp_path: Path) -> None:
    architecture = make("decoder", ("int8_mixed",) * 2)
    module = outlier_model(architecture)
    mixed = export_onnx(module, architecture, tmp_path / "a.onnx").read_bytes()
    plain = export_onnx(module, architecture.with_number_format("int8_dynamic"), tmp_path / "b.onnx")
    assert mixed == plain.read_bytes()


@pytest.mark.slow
def test_a_mix_of_all_formats_with_shared_and_low_rank_maps_runs(make: Factory, tmp_path: Path) -> None:
    formats = ("fp32", "int8_dynamic", "int8_mixed", "int4_g32", "int4_g64")
    architecture = make("decoder", formats)
    for more in ({}, {"projection": {"kind": "lowrank", "rank_ratio": 0.25}}):
        point = parse_architecture({**architecture.model_dump(mode="json"), **more})
        module = build_model(point, seed=0).eval()
        path = export_onnx(module, point, tmp_path / "m.onnx")
        kinds = {node.op_type for node in onnx.load(path).graph.node}
        assert {"MatMul", "MatMulInteger", "MatMulNBits"} <= kinds
        x = inputs(point, 2, 9)
        (found,) = onnxruntime.InferenceSession(path).run(None, {"tokens": x})
        with torch.no_grad():
            expected = apply_number_formats(module, point)(torch.from_numpy(x)).numpy()
        assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("form", "product"), [("int8_dynamic", "MatMulInteger"), ("int4_g32", "MatMulNBits")]
)
def test_experts_are_converted_and_their_router_is_not(
    form: str, product: str, make: Factory, tmp_path: Path
) -> None:
    plain = make("decoder", (form,)).model_dump(mode="json")
    experts = {"kind": "moe", "d_ff": 32, "num_experts": 3, "top_k": 1}
    point = parse_architecture({**plain, "layers": [{**plain["layers"][0], "feed_forward": experts}]})
    module = build_model(point, seed=0).eval()
    path = export_onnx(module, point, tmp_path / "m.onnx")
    graph = onnx.load(path).graph
    assert sum(node.op_type == product for node in graph.node) == 2 + 2 * 3
    floats = [
        tuple(w.dims) for w in graph.initializer if w.data_type == onnx.TensorProto.FLOAT and len(w.dims) == 2
    ]
    assert (32, 3) in floats or (3, 32) in floats, floats
    x = inputs(point, 1, 1)  # two experts see no token
    (found,) = onnxruntime.InferenceSession(path).run(None, {"tokens": x})
    with torch.no_grad():
        expected = apply_number_formats(module, point)(torch.from_numpy(x)).numpy()
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)


@pytest.mark.parametrize("form", ["int8_dynamic", "int4_g32"])
def test_layers_that_share_weights_are_all_converted_and_stored_once(
    form: str, make: Factory, tmp_path: Path
) -> None:
    alone = make("decoder", (form,))
    shared = parse_architecture(
        {**make("decoder", (form,) * 3).model_dump(mode="json"), "sharing": {"kind": "all"}}
    )
    paths = [
        export_onnx(build_model(point, seed=0), point, tmp_path / f"{len(point.layers)}.onnx")
        for point in (alone, shared)
    ]
    products = [
        sum(node.op_type in ("MatMulInteger", "MatMulNBits") for node in onnx.load(path).graph.node)
        for path in paths
    ]
    assert products == [4, 12]
    weights = [
        [
            w
            for w in onnx.load(path).graph.initializer
            if w.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
        ]
        for path in paths
    ]
    assert len(weights[0]) == len(weights[1])


@pytest.mark.parametrize(
    "formats", [("fp32",) * 2, ("int8_dynamic",) * 2, ("int8_mixed", "int4_g32"), ("int4_g64",) * 2]
)
def test_the_same_model_gives_the_same_bytes_without_paths_of_this_machine(
    formats: tuple[str, str], make: Factory, tmp_path: Path
) -> None:
    architecture = make("decoder", formats)
    module = build_model(architecture, seed=0)
    first = export_onnx(module, architecture, tmp_path / "a.onnx").read_bytes()
    second = export_onnx(module, architecture, tmp_path / "b.onnx").read_bytes()
    assert first == second
    assert b".py" not in first
    assert module.training  # as it was


def test_a_format_without_onnx_form_is_refused_with_its_layer(make: Factory, tmp_path: Path) -> None:
    architecture = make("decoder", ("fp32", "bf16"))
    ways = "choose fp32, int8_dynamic, int8_mixed, int4_g32 or int4_g64"
    with pytest.raises(UnsupportedError, match=f"layer 1: number format 'bf16' .*; {ways}"):
        export_onnx(build_model(architecture), architecture, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


class WithoutForm(nn.Module):
    """An operator that has no ONNX form."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        mixed: Tensor = torch.special.bessel_j0(x)
        return mixed


def test_f44_an_operator_without_onnx_form_names_its_block_and_leaves_no_file(
    make: Factory, tmp_path: Path
) -> None:
    architecture = make()
    module = build_model(architecture)
    block = module.blocks[1]
    assert isinstance(block, nn.Module)
    block.mixer = WithoutForm()
    with pytest.raises(UnsupportedError, match=r"layer 1 \(softmax, glu\): no ONNX form: .*bessel_j0"):
        export_onnx(module, architecture, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []
