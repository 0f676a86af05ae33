"""Group D: a copy of the network with absolute weights, its input ones. The network itself is not touched.

`positive_gradients` leaves norms and nonlinearities as they are (DSS): ones go into the embedding as into a
linear map, so a table of tokens gives the mean of its rows, and the gradient is that of the sum of logits.
Behind the last norm stands the head, so that this sum has one.

`log_flow` makes every part linear in its input and of degree 1 (SynFlow):

    norms, activations    the identity; a gated hidden layer is the root of its branches' product
    mixer                 |W_out| t(|W_v| s) * product of mean |W| over its other matrices that read
    block                 as built; then the state is divided by its largest number, whose logarithm is kept

W_v is the last matrix of the first map that reads the stream, t repeats its outputs up to the width of W_out
(grouped values). Tokens are all alike, so that averaging over permitted positions is the identity, and one of
them is enough. Low-rank maps are multiplied out after taking absolute values. All in float64.

Source: Tanaka et al. 2020, arXiv:2006.05467 (SynFlow); Zhou et al. 2022, arXiv:2203.12217 (DSS). The form
without norms, in logarithms and with averaging mixers is ours: as published the flow is 0 behind a norm and
overflows without.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from space.projection import LowRank
from space.roles import ParameterRole

from .points import Points

Roles = dict[int, ParameterRole]
"""By the id of a parameter of the copy."""


def positive_copy(model: nn.Module, points: Points) -> tuple[nn.Module, Points]:
    """A copy with absolute matrices, and its points."""
    twin, own = copy.deepcopy((model, points))
    twin.eval().requires_grad_(False)
    for name, parameter in twin.named_parameters():
        if _counts(own.roles.get(name), parameter):
            parameter.abs_()
    return twin, own


def positive_gradients(twin: nn.Module, own: Points, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Name -> absolute weight and gradient of the sum of logits; `x` says the shape of one input."""
    weights = {
        name: parameter.requires_grad_(True)
        for name, parameter in twin.named_parameters()
        if _counts(own.roles.get(name), parameter)
    }
    ones = torch.ones_like(x[:1])
    with ExitStack() as hooks, torch.enable_grad():
        if not x.is_floating_point() and own.embedding is not None:
            hooks.callback(own.embedding.register_forward_hook(_mean_row).remove)
        logits = twin(ones)
        gradients = torch.autograd.grad(
            logits.sum(), list(weights.values()), allow_unused=True, materialize_grads=True
        )
    return {
        name: (weight.detach(), gradient)
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
    }


def _counts(role: ParameterRole | None, parameter: nn.Parameter) -> bool:
    return (
        role is not None and parameter.ndim >= 2 and role.role.startswith(("embed", "mixer.", "ffn.", "head"))
    )


def _mean_row(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """Ones through a table of tokens, over its number of rows, and through the map behind a narrow one."""
    table, *behind = module.parameters()
    row = table.mean(0)
    for weight in behind:
        row = weight @ row
    return row.expand_as(output)


@torch.no_grad()
def log_flow(twin: nn.Module, own: Points) -> float:
    """log R of the positive linearised network, R the sum of its outputs for one token of ones.

    The copy is in float64 afterwards.
    """
    twin.double()
    roles = {
        id(parameter): own.roles[name] for name, parameter in twin.named_parameters() if name in own.roles
    }
    with ExitStack() as hooks:

        def replace(module: nn.Module, form: Callable[[Tensor], Tensor]) -> None:
            handle = module.register_forward_hook(lambda _, inputs, __: form(inputs[0]))
            hooks.callback(handle.remove)

        for mixer in own.mixers:
            replace(mixer, mean_mixing(mixer, roles))
        for norm in own.norms:
            replace(norm, _identity)
        for point in own.feed_forwards:
            for nonlinearity in point.nonlinearities:
                replace(nonlinearity, _identity)
            if point.is_gated:
                replace(point.hidden, torch.sqrt)
        stages = [*own.blocks, *([own.head] if own.head is not None else [])]
        return log_chain(stages, torch.ones(1, 1, own.d_model, dtype=torch.float64))


def log_chain(stages: Sequence[Callable[[Tensor], Tensor]], x: Float[Tensor, "..."]) -> float:
    """log of the sum of what positive maps of degree 1, one after the other, make of x; never overflows."""
    logarithm = torch.zeros((), dtype=torch.float64)
    for stage in stages:
        x = stage(x)
        largest = x.abs().max()
        logarithm = logarithm + largest.log()
        x = x / largest
    return float(logarithm + x.sum().log())


def _identity(x: Tensor) -> Tensor:
    return x


def mean_mixing(mixer: nn.Module, roles: Roles) -> Callable[[Tensor], Tensor]:
    """The mixer's form for tokens that are all alike; the identity without matrices."""
    found = list(_matrices(mixer, roles))
    reading = [matrix for role, _, matrix in found if role == "mixer.in"]
    writing = [matrix for role, _, matrix in found if role == "mixer.out"]
    first = [matrix for role, place, matrix in found if role == "mixer.in" and place == found[0][1]]
    if not writing or not first:
        return _identity
    value, out = first[-1], writing[-1]
    factor = 1.0
    for matrix in reading:
        if matrix is not value:
            factor *= float(matrix.mean())

    def form(x: Tensor) -> Tensor:
        if x.shape[-1] != value.shape[1] or out.shape[0] != x.shape[-1]:
            return factor * float(value.mean()) * x  # a map over tokens
        read = x @ value.T
        times = -(-out.shape[1] // read.shape[-1])
        repeated = read.repeat(*[1] * (read.ndim - 1), times)[..., : out.shape[1]]
        return factor * (repeated @ out.T)

    return form


def _matrices(mixer: nn.Module, roles: Roles) -> Iterator[tuple[str, int, Tensor]]:
    """Role, number of the map it is part of, and every matrix of a mixer; low-rank ones multiplied out."""
    inside: set[int] = set()
    for place, module in enumerate(mixer.modules()):
        if id(module) in inside:
            continue
        if isinstance(module, LowRank):
            inside |= {id(child) for child in module.modules()}
            downs = torch.split(module.down.weight, list(module.ranks))
            for down, up in zip(downs, module.up, strict=True):
                weight = up.get_parameter("weight")
                yield roles[id(weight)].role, place, weight @ down
            continue
        for parameter in module.parameters(recurse=False):
            role = roles.get(id(parameter))
            if role is not None and parameter.ndim == 2:
                for part in torch.split(parameter.detach(), list(role.parts) or [len(parameter)]):
                    yield role.role, place, part
