"""The definitions of gated linear attention and retention against those of flash-linear-attention."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from space.mixers.gla import gla_reference
from space.mixers.retention import log_decays, retention_reference


def theirs(module: str) -> Any:
    """Their slow forms run without a GPU; importing them warns that there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(module)


def parts(key: int = 6, value: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v as [batch, heads, tokens, width]."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 19, width, generator=generator) for width in (key, key, value))
    return q, k, v


def test_vector_gates_equal_their_recurrence() -> None:
    naive = theirs("fla.ops.gla.naive")
    q, k, v = parts()
    fade = torch.nn.functional.logsigmoid(torch.randn(k.shape, generator=torch.Generator().manual_seed(1)))
    y, _ = naive.naive_recurrent_gla(*(part.transpose(1, 2) for part in (q, k, v, fade)))
    torch.testing.assert_close(
        gla_reference(q * 6**-0.5, k, v, (fade,)), y.transpose(1, 2), rtol=1e-4, atol=1e-5
    )


def test_retention_equals_their_parallel_form() -> None:
    naive = theirs("fla.ops.retention.naive")
    q, k, v = parts()
    ours = retention_reference(q * 6**-0.5, k, v, log_decays(3).float(), causal=True)
    torch.testing.assert_close(ours, naive.naive_retention(q, k, v), rtol=1e-4, atol=1e-5)
