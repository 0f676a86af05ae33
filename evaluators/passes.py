"""What one instrumented run of a freshly initialised model shows to every proxy.

The first 16 probe examples run as K = 4 micro-batches, forward and backward of the task loss. With c_k
predictions in micro-batch k, w_k = c_k / sum c, and g_k the gradient of the micro-batch's mean loss:

    gradient g = sum_k w_k g_k      (the gradient of the whole batch's mean loss, however it was cut)
    E|g|       = sum_k w_k |g_k|
    Var g      = sum_k w_k (g_k - g)^2

accumulated in one sweep (`GradientMoments`). The hidden activations of the feed-forwards come from the same
forwards; further examples run forward only, until there are four rows per hidden unit.

Source: weighted one-pass moments, West 1979, doi:10.1145/359146.359153.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from space.errors import InvalidInputError
from space.roles import ParameterRole

Need = Literal["hidden", "labels", "gradients"]
"""hidden: feed-forward activations. labels, gradients: the backward passes of the task loss."""

GRADIENT_EXAMPLES = 16
MICRO_BATCHES = 4
ROWS_PER_UNIT = 4
MAX_ROWS = 8192
SAMPLED_UNITS = 1024
MATRIX_ROLES = ("mixer.", "ffn.")
"""Embedding, positions, norms and head differ mainly through size; no proxy reads them."""


class GradientMoments:
    """Weighted mean, mean magnitude and variance of one tensor's gradients, one micro-batch at a time."""

    def __init__(self) -> None:
        self.count = 0
        self.weight = 0.0
        self.mean = torch.zeros(())
        self.mean_abs = torch.zeros(())
        self._squares = torch.zeros(())

    def add(self, gradient: Tensor, weight: float) -> None:
        """Equal gradients give a variance of exactly 0, not of round-off."""
        self.count += 1
        self.weight += weight
        difference = gradient - self.mean
        step = weight / self.weight
        self.mean = self.mean + step * difference
        self.mean_abs = self.mean_abs + step * (gradient.abs() - self.mean_abs)
        self._squares = self._squares + weight * difference * (gradient - self.mean)

    @property
    def std(self) -> Tensor:
        """Population standard deviation."""
        return (self._squares / self.weight).clamp_min(0.0).sqrt()


def stacked_moments(
    gradients: Shaped[Tensor, "micro ..."], weights: Shaped[Tensor, " micro"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, mean magnitude and population standard deviation by definition; `GradientMoments`, slowly."""
    share = (weights / weights.sum()).view(-1, *[1] * (gradients.ndim - 1))
    mean = (share * gradients).sum(0)
    return mean, (share * gradients.abs()).sum(0), (share * (gradients - mean) ** 2).sum(0).sqrt()


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """One weight matrix (outputs, inputs) of a mixer or feed-forward. Fused weights come as their parts."""

    name: str
    role: str
    layer: int | None
    value: Float[Tensor, "outputs inputs"]
    gradient: Float[Tensor, "outputs inputs"] | None
    """Of the mean task loss over all micro-batches; None when no backward ran."""
    gradient_mean_abs: Float[Tensor, "outputs inputs"] | None
    gradient_std: Float[Tensor, "outputs inputs"] | None


@dataclass(frozen=True, slots=True, eq=False)
class Hidden:
    """Activations inside one feed-forward, after its nonlinearity: a row per token.

    A mixture of experts has a row per token and expert that it went through.
    """

    number: int
    """Which feed-forward, counted through the depth from 0; a layer may have none or two."""
    rows: Float[Tensor, "rows units"]
    d_ff: int
    """Width of the feed-forward; more than `rows` has columns when units were sampled."""


@dataclass(frozen=True, slots=True, eq=False)
class Passes:
    """Everything one shared run collected. Tensors are detached; reading them cannot change the model."""

    matrices: tuple[Matrix, ...]
    hidden: tuple[Hidden, ...]
    num_params: int
    """Of the whole model, tied weights once."""
    num_micro_batches: int
    loss: float
    """Mean task loss in nats; NaN when no pass needed labels."""
    wall_s: float


@dataclass(slots=True)
class _Recorder:
    """Keeps what the forward hooks see, at most `MAX_ROWS` rows."""

    units: dict[int, Tensor] = field(default_factory=dict)
    widths: dict[int, int] = field(default_factory=dict)
    chunks: dict[int, list[Tensor]] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)

    def hook(self, number: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen = self.rows.get(number, 0)
            flat = output.detach().flatten(0, -2)[: MAX_ROWS - seen]
            self.widths[number] = flat.shape[1]
            self.rows[number] = seen + flat.shape[0]
            wide = self._too_wide(flat.shape[1])
            kept = flat[:, self._sample(number, flat.shape[1])] if wide else flat.clone()
            self.chunks.setdefault(number, []).append(kept)

        return record

    @staticmethod
    def _too_wide(width: int) -> bool:
        return ROWS_PER_UNIT * width > MAX_ROWS

    def _sample(self, number: int, width: int) -> Tensor:
        """The same units in every micro-batch."""
        if number not in self.units:
            generator = torch.Generator().manual_seed(number)
            self.units[number] = torch.randperm(width, generator=generator)[:SAMPLED_UNITS].sort().values
        return self.units[number]

    @property
    def hungry(self) -> bool:
        """Whether some feed-forward has fewer rows than its width wants."""
        return any(
            self.rows[number] < min(MAX_ROWS, ROWS_PER_UNIT * width) for number, width in self.widths.items()
        )

    def hidden(self) -> tuple[Hidden, ...]:
        return tuple(
            Hidden(number, torch.cat(chunks), self.widths[number])
            for number, chunks in sorted(self.chunks.items())
        )


def probe_size(tokens: int) -> int:
    """Examples a probe batch should have for sequences of `tokens` tokens.

    Gradients read the first 16; w_pca reads on until it has its rows, so short sequences need more examples.

    >>> probe_size(128), probe_size(16)
    (64, 512)
    """
    return max(GRADIENT_EXAMPLES, -(-MAX_ROWS // tokens))


def collect(
    model: nn.Module,
    inputs: Shaped[np.ndarray, "examples ..."],
    targets: Shaped[np.ndarray, "labels ..."],
    *,
    roles: Mapping[str, ParameterRole],
    hidden: Mapping[int, nn.Module],
    needs: frozenset[Need],
    num_micro_batches: int = MICRO_BATCHES,
) -> Passes:
    """Runs the micro-batches once and returns what the proxies that need `needs` will read.

    The model is as before afterwards, bit for bit: parameters, gradients, buffers, hooks, train and gradient
    flags, and the global random state.
    """
    start = time.perf_counter()
    x, y = _tensors(inputs, targets)
    weights = {
        name: parameter
        for name, parameter in model.named_parameters()
        if name in roles and parameter.ndim == 2 and roles[name].role.startswith(MATRIX_ROLES)
    }
    recorder = _Recorder()
    chunks = _micro_batches(min(len(x), GRADIENT_EXAMPLES), num_micro_batches)
    moments: dict[str, GradientMoments] = {}
    loss = float("nan")
    with _instrumented(model, weights, hidden if "hidden" in needs else {}, recorder):
        if "gradients" in needs:
            moments, loss = _backward_passes(model, x, y, chunks, weights)
        elif "hidden" in needs:
            with torch.no_grad():
                for chunk in chunks:
                    model(x[chunk])
        _feed(model, x, recorder, chunks)
    return Passes(
        matrices=tuple(
            itertools.chain.from_iterable(
                _matrices(name, weight.detach(), roles[name], moments.get(name))
                for name, weight in weights.items()
            )
        ),
        hidden=recorder.hidden(),
        num_params=sum(parameter.numel() for parameter in model.parameters()),
        num_micro_batches=len(chunks),
        loss=loss,
        wall_s=time.perf_counter() - start,
    )


def _tensors(inputs: np.ndarray, targets: np.ndarray) -> tuple[Tensor, Tensor]:
    """Copies, so that read-only arrays are welcome."""
    if len(inputs) != len(targets) or len(inputs) == 0:
        raise InvalidInputError(
            f"probe batch has {len(inputs)} inputs and {len(targets)} targets; give equally many, at least 1"
        )
    dtype = torch.float32 if np.issubdtype(inputs.dtype, np.floating) else torch.int64
    return torch.tensor(inputs, dtype=dtype), torch.tensor(targets, dtype=torch.int64)


def _micro_batches(examples: int, count: int) -> list[slice]:
    """`examples` cut into `count` runs of nearly equal length, fewer when there are fewer examples."""
    count = min(count, examples)
    edges = [index * examples // count for index in range(count + 1)]
    return list(itertools.starmap(slice, itertools.pairwise(edges)))


@contextmanager
def _instrumented(
    model: nn.Module,
    weights: Mapping[str, nn.Parameter],
    hidden: Mapping[int, nn.Module],
    recorder: _Recorder,
) -> Iterator[None]:
    """Evaluation mode, gradients on for `weights` only, hooks in place; everything as before on exit."""
    training = [(module, module.training) for module in model.modules()]
    requiring = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    wanted = {id(weight) for weight in weights.values()}
    with torch.random.fork_rng(devices=[]), ExitStack() as hooks:
        try:
            model.eval()
            for parameter in model.parameters():
                parameter.requires_grad_(id(parameter) in wanted)
            for number, module in hidden.items():
                hooks.callback(module.register_forward_hook(recorder.hook(number)).remove)
            yield
        finally:
            for module, flag in training:
                module.training = flag
            for parameter, flag in requiring:
                parameter.requires_grad_(flag)


def _backward_passes(
    model: nn.Module, x: Tensor, y: Tensor, chunks: list[slice], weights: Mapping[str, nn.Parameter]
) -> tuple[dict[str, GradientMoments], float]:
    """Gradient moments per weight and the mean loss over all micro-batches."""
    moments = {name: GradientMoments() for name in weights}
    total = sum(y[chunk].numel() for chunk in chunks)
    mean_loss = 0.0
    for chunk in chunks:
        share = y[chunk].numel() / total
        with torch.enable_grad():
            loss = task_loss(model(x[chunk]), y[chunk])
            mean_loss += share * float(loss.detach())
            gradients = (
                torch.autograd.grad(loss, list(weights.values()), allow_unused=True, materialize_grads=True)
                if weights
                else ()
            )
        for moment, gradient in zip(moments.values(), gradients, strict=True):
            moment.add(gradient, share)
    return moments, mean_loss


def _feed(model: nn.Module, x: Tensor, recorder: _Recorder, chunks: list[slice]) -> None:
    """Forwards the examples after the gradient ones until no layer wants more rows."""
    size = chunks[0].stop
    with torch.no_grad():
        for first in range(chunks[-1].stop, len(x), size):
            if not recorder.hungry:
                return
            model(x[first : first + size])


def task_loss(
    logits: Float[Tensor, "batch ... classes"], targets: Int64[Tensor, "batch ..."]
) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats over predicted positions (language) or examples (classification)."""
    return cross_entropy(logits.flatten(0, -2), targets.flatten())


def _matrices(
    name: str, weight: Tensor, role: ParameterRole, moments: GradientMoments | None
) -> Iterator[Matrix]:
    """The matrices fused in one weight, in order; the weight itself when it is one matrix."""
    parts = list(role.parts) or [weight.shape[0]]
    statistics: tuple[Tensor | None, ...] = (
        (None, None, None) if moments is None else (moments.mean, moments.mean_abs, moments.std)
    )
    pieces = [[None] * len(parts) if tensor is None else torch.split(tensor, parts) for tensor in statistics]
    for index, value in enumerate(torch.split(weight, parts)):
        label = f"{name}[{index}]" if len(parts) > 1 else name
        yield Matrix(label, role.role, role.layer, value, *(piece[index] for piece in pieces))
