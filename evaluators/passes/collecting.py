"""One instrumented run of a network, shared by all proxies.

The first 16 probe examples run as K = 4 micro-batches, forward and, where a proxy needs it, backward: groups
B, C, E and F read the same passes. Only hidden activations go on over further examples, until there are four
rows per hidden unit. Curvature, single examples, absolute weights and number formats have passes of their
own. Sequences are cut at 256 tokens.
"""

import itertools
import time
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from space.architecture import Architecture
from space.errors import InvalidInputError
from space.roles import ParameterRole

from .backward import Pulled, pull
from .curvature import example_gram, hessian_times
from .losses import check_loss
from .moments import GradientMoments
from .noise import quantization_noise
from .observing import Observer
from .points import Points
from .positive import log_flow, positive_copy, positive_gradients
from .records import Loss, Matrix, Need, Passes, ProbeInput
from .restoring import observed
from .rows import MAX_ROWS

GRADIENT_EXAMPLES = 16
MICRO_BATCHES = 4
MAX_TOKENS = 256
MATRIX_ROLES = ("mixer.", "ffn.")
"""Embedding, positions, norms and head differ mainly through size; no proxy of gradients reads them."""

_BACKWARD: frozenset[Need] = frozenset(
    {"gradients", "activation_gradients", "embedding_gradients", "isometry", "curvature"}
)
_FORWARD: frozenset[Need] = frozenset({"hidden", "signs", "probabilities", "reads", "features"})
_OF_WEIGHTS: frozenset[Need] = frozenset({"gradients", "curvature", "example_gradients"})


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
    points: Points,
    needs: frozenset[Need],
    num_micro_batches: int = MICRO_BATCHES,
    seed: int = 0,
    loss: Loss = "task",
    probe: ProbeInput = "real",
    architecture: Architecture | None = None,
) -> Passes:
    """Runs what the proxies that need `needs` will read, and returns it.

    The model is as before afterwards, bit for bit: parameters, gradients, buffers, hooks, train and gradient
    flags, and the global random state. `architecture`: what the model was built from; its number formats
    make the noise.

    Raises:
        InvalidInputError: inputs and targets do not fit, or a sum of outputs behind a norm.
    """
    start = time.perf_counter()
    check_loss(loss, points)
    x, y = _tensors(inputs, targets)
    weights = {
        name: parameter
        for name, parameter in model.named_parameters()
        if name in points.roles and parameter.ndim == 2 and points.roles[name].role.startswith(MATRIX_ROLES)
    }
    chunks = _micro_batches(min(len(x), GRADIENT_EXAMPLES), num_micro_batches)
    wanted = weights if needs & _OF_WEIGHTS else {}
    observer = Observer(model, points, needs, probe=probe)
    pulled, gram, curvature = Pulled(), None, dict[str, Tensor]()
    with observed(model, list(wanted.values())):
        torch.manual_seed(seed)
        with observer.attached():
            if needs & _BACKWARD:
                own = wanted if needs & {"gradients", "curvature"} else {}
                pulled = pull(model, x, y, chunks, own, observer, needs, loss=loss, seed=seed)
            elif needs & _FORWARD:
                _forward(model, x, chunks, observer)
            if "hidden" in needs:
                _feed(model, x, chunks, observer)
            if "example_gradients" in needs:
                gram = example_gram(model, x[: chunks[-1].stop], wanted, observer, seed=seed)
            if "curvature" in needs:
                means = {name: moment.mean for name, moment in pulled.moments.items()}
                curvature = hessian_times(model, x, y, chunks, wanted, means, observer, loss=loss, seed=seed)
        flow, positive = _absolute(model, points, x, needs)
        noise = (
            quantization_noise(model, architecture, x, chunks)
            if "noise" in needs and architecture is not None
            else ()
        )
    has_loss = bool(pulled.moments) or bool(pulled.activations)
    return Passes(
        matrices=_all_matrices(weights, points.roles, pulled.moments, curvature),
        hidden=observer.rows.hidden(),
        num_params=sum(parameter.numel() for parameter in model.parameters()),
        num_micro_batches=len(chunks),
        loss=pulled.loss if has_loss else float("nan"),
        wall_s=time.perf_counter() - start,
        architecture=architecture,
        is_causal=points.is_causal,
        num_layers=len(points.blocks),
        signs=observer.signs(),
        probabilities=observer.probabilities(),
        reads=observer.reads(),
        features=observer.features(),
        activation_gradients=tuple(torch.cat(rows) for rows in pulled.activations),
        embedding_gradients=torch.cat(pulled.embedded) if pulled.embedded else None,
        example_gram=gram,
        isometry=tuple(pulled.blocks),
        log_flow=flow,
        positive=tuple(
            itertools.chain.from_iterable(
                _positive_matrices(name, points.roles[name], *pair) for name, pair in positive.items()
            )
        ),
        noise=noise,
    )


def _tensors(inputs: np.ndarray, targets: np.ndarray) -> tuple[Tensor, Tensor]:
    """Copies, so that read-only arrays are welcome; sequences are cut, with the targets of their tokens."""
    if len(inputs) != len(targets) or len(inputs) == 0:
        raise InvalidInputError(
            f"probe batch has {len(inputs)} inputs and {len(targets)} targets; give equally many, at least 1"
        )
    is_float = np.issubdtype(inputs.dtype, np.floating)
    x = torch.tensor(inputs, dtype=torch.float32 if is_float else torch.int64)
    y = torch.tensor(targets, dtype=torch.int64)
    if x.ndim == (3 if is_float else 2):
        x, y = x[:, :MAX_TOKENS], y[:, :MAX_TOKENS] if y.ndim == 2 else y
    return x, y


def _micro_batches(examples: int, count: int) -> list[slice]:
    """`examples` cut into `count` runs of nearly equal length, fewer when there are fewer examples."""
    count = min(count, examples)
    edges = [index * examples // count for index in range(count + 1)]
    return list(itertools.starmap(slice, itertools.pairwise(edges)))


def _absolute(
    model: nn.Module, points: Points, x: Tensor, needs: frozenset[Need]
) -> tuple[float | None, dict[str, tuple[Tensor, Tensor]]]:
    """What one copy with absolute weights gives: its flow last, for that turns it into float64."""
    if not needs & {"flow", "positive"}:
        return None, {}
    twin, own = positive_copy(model, points)
    gradients = positive_gradients(twin, own, x) if "positive" in needs else {}
    return log_flow(twin, own) if "flow" in needs else None, gradients


@torch.no_grad()
def _forward(model: nn.Module, x: Tensor, chunks: list[slice], observer: Observer) -> None:
    for chunk in chunks:
        observer.begin((chunk.stop - chunk.start) / chunks[-1].stop)
        model(x[chunk])


@torch.no_grad()
def _feed(model: nn.Module, x: Tensor, chunks: list[slice], observer: Observer) -> None:
    """Forwards the examples after the gradient ones until no layer wants more rows."""
    size = chunks[0].stop
    for first in range(chunks[-1].stop, len(x), size):
        if not observer.rows.is_hungry:
            return
        observer.begin(sees="rows")
        model(x[first : first + size])


def _all_matrices(
    weights: Mapping[str, nn.Parameter],
    roles: Mapping[str, ParameterRole],
    moments: Mapping[str, GradientMoments],
    curvature: Mapping[str, Tensor],
) -> tuple[Matrix, ...]:
    return tuple(
        matrix
        for name, weight in weights.items()
        for matrix in _matrices(name, weight.detach(), roles[name], moments.get(name), curvature.get(name))
    )


def _matrices(
    name: str, weight: Tensor, role: ParameterRole, moments: GradientMoments | None, curvature: Tensor | None
) -> Iterator[Matrix]:
    """The matrices fused in one weight, in order; the weight itself when it is one matrix."""
    parts = list(role.parts) or [weight.shape[0]]
    beside: tuple[Tensor | None, ...] = (
        (None, None, None, curvature)
        if moments is None
        else (moments.mean, moments.mean_abs, moments.std, curvature)
    )
    pieces = [[None] * len(parts) if tensor is None else torch.split(tensor, parts) for tensor in beside]
    for index, value in enumerate(torch.split(weight, parts)):
        label = f"{name}[{index}]" if len(parts) > 1 else name
        yield Matrix(label, role.role, role.layer, value, *(piece[index] for piece in pieces))


def _positive_matrices(name: str, role: ParameterRole, weight: Tensor, gradient: Tensor) -> Iterator[Matrix]:
    """A kernel over patches is a matrix of outputs by everything else."""
    flat, pulled = weight.flatten(1), gradient.flatten(1)
    parts = list(role.parts) or [len(flat)]
    for index, (value, own) in enumerate(
        zip(torch.split(flat, parts), torch.split(pulled, parts), strict=True)
    ):
        label = f"{name}[{index}]" if len(parts) > 1 else name
        yield Matrix(label, role.role, role.layer, value, own)
