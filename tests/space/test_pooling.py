"""How the tokens of an input become one vector for its classes."""

from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from space.architecture import ClassificationHead, Pooling, parse_architecture
from space.embedding import ClassifierHead, build_head
from space.export import export_onnx
from space.model import build_model

POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
MASK = torch.tensor([[True, True, True, True], [False, True, False, True], [True, False, False, False]])


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def head(pooling: Pooling) -> ClassifierHead:
    config = ClassificationHead(pooling=pooling)
    built = build_head(config, torch.nn.Identity(), d_model=5, outputs=3).double()
    assert isinstance(built, ClassifierHead)
    return built


def pooled(x: Tensor, real: Tensor, pooling: Pooling) -> Tensor:
    """The definition, one input at a time; a real token at least."""
    rows = []
    for tokens, mask in zip(x, real, strict=True):
        kept = [token for token, is_real in zip(tokens, mask, strict=True) if is_real]
        if pooling == "mean":
            rows.append(torch.stack(kept).sum(0) / len(kept))
        elif pooling == "last":
            rows.append(kept[-1])
        elif pooling == "cls":
            rows.append(tokens[0] if mask[0] else torch.zeros_like(tokens[0]))
        else:
            rows.append(torch.stack([torch.stack([token[c] for token in kept]).max() for c in range(5)]))
    return torch.stack(rows)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_values_and_gradients_are_those_of_the_definition(pooling: Pooling) -> None:
    module, x = head(pooling), random(3, 4, 5).requires_grad_()
    for mask in (None, MASK):
        real = torch.ones(3, 4, dtype=torch.bool) if mask is None else mask
        found, expected = module(x, mask), module.projection(pooled(x, real, pooling))
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        for a, b in zip(
            torch.autograd.grad((found**2).sum(), x),
            torch.autograd.grad((expected**2).sum(), x),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_rubbish_in_the_padding_changes_nothing_and_nothing_real_gives_zero(pooling: Pooling) -> None:
    module, x = head(pooling), random(3, 4, 5)
    rubbish = torch.where(MASK[..., None], x, 1e6)
    torch.testing.assert_close(module(rubbish, MASK), module(x, MASK), rtol=1e-12, atol=1e-12)
    nothing = x.requires_grad_()
    y = module(nothing, torch.zeros(3, 4, dtype=torch.bool))
    assert not y.any()
    (gradient,) = torch.autograd.grad(y.sum(), nothing)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_whole_model_has_the_pooling_of_its_description(pooling: Pooling, tmp_path: Path) -> None:
    layer = {
        "mixer": {"kind": "gated_conv", "width": 3, "gates": 1},
        "feed_forward": {"kind": "mlp", "d_ff": 16},
        "norm": {"kind": "rmsnorm"},
    }
    point = parse_architecture(
        {
            "model": "encoder",
            "interface": {"input": "values", "channels": 3, "context_length": 9, "outputs": 4},
            "d_model": 8,
            "position": {"kind": "learned"},
            "layers": [layer],
            "final_norm": {"kind": "rmsnorm"},
            "head": {"kind": "classification", "pooling": pooling},
        }
    )
    assert ('"pooling"' in point.canonical_json) == (pooling != "mean")
    model = build_model(point, seed=0).eval()
    assert isinstance(model.head, ClassifierHead)
    assert model.head.pooling == pooling
    session = onnxruntime.InferenceSession(
        export_onnx(model, point, tmp_path / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    for length in (1, 5, 9):
        x = random(2, length, 3).float()
        expected = model(x).detach().numpy()
        np.testing.assert_allclose(session.run(None, {"values": x.numpy()})[0], expected, atol=1e-5)
