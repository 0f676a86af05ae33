"""Norms and the maps that read them: where one map may take what a norm multiplies and adds.

    y = x (diag(factor) W) + (b + shift W)        is (x factor + shift) W + b

Whether a branch sees its input through linear maps alone is found by running it: these maps get an input
without gradient, and if the output then has none either, nothing else reads it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .architecture import Architecture
from .choice import Norm
from .model import Block

PROBE_TOKENS = 8


class Affine(Norm):
    """y = x factor + shift."""

    factor: Tensor
    shift: Tensor

    def __init__(self, factor: Float[Tensor, " d_model"], shift: Float[Tensor, " d_model"]) -> None:
        super().__init__()
        self.register_buffer("factor", factor.clone())
        self.register_buffer("shift", shift.clone())

    def forward(
        self, x: Float[Tensor, "*axes d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "*axes d_model"]:
        return x * self.factor + self.shift


class Folded(Norm):
    """What is left of a norm that went into the maps behind it."""

    def forward(
        self, x: Float[Tensor, "*axes d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "*axes d_model"]:
        return x


@dataclass(frozen=True, slots=True)
class Slot:
    """A norm of a model and the branch that reads it; None: it stands behind its branch."""

    owner: nn.Module
    name: str
    branch: nn.Module | None
    layer: int | None
    """None: the final norm."""

    @property
    def norm(self) -> nn.Module:
        return self.owner.get_submodule(self.name)

    def put(self, norm: nn.Module) -> None:
        setattr(self.owner, self.name, norm)


def slots_of(model: nn.Module) -> Iterator[Slot]:
    """Every norm of a model once, those of the layers in order, then the final one."""
    seen: set[nn.Module] = set()
    for index, block in enumerate(model.get_submodule("blocks").children()):
        if not isinstance(block, Block):
            continue
        branches = {
            "first_norm": block.first_feed_forward,
            "mixer_norm": block.mixer,
            "feed_forward_norm": block.feed_forward,
        }
        for name, branch in branches.items():
            norm = getattr(block, name)
            if norm is not None and norm not in seen:
                seen.add(norm)
                yield Slot(block, name, branch if block.placement == "pre" else None, index)
    yield Slot(model, "final_norm", model.get_submodule("head"), None)


def absorb(linear: nn.Linear, factor: Tensor, shift: Tensor) -> None:
    """The map of x factor + shift, in place; in float64 on the way."""
    weight = linear.weight.double()
    shifted = weight @ shift.double()
    bias = shifted if linear.bias is None else linear.bias.double() + shifted
    dtype = linear.weight.dtype
    linear.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
    linear.weight = nn.Parameter((weight * factor.double()).to(dtype), requires_grad=False)


def readers(slot: Slot, slots: list[Slot], architecture: Architecture) -> tuple[nn.Linear, ...] | None:
    """The maps through which alone the slot's norm is read; None where something else reads it too.

    Maps that are shared with a branch behind another norm are no such maps.
    """
    if slot.branch is None:
        return None
    others = Counter(
        id(module)
        for other in slots
        if other is not slot and other.branch is not None
        for module in other.branch.modules()
    )
    found: dict[nn.Linear, None] = {}
    for mask in _masks(slot, architecture):
        maps = _probed_readers(slot.branch, _probe(slot.branch, architecture), mask)
        if maps is None:
            return None
        found |= dict.fromkeys(maps)
    return None if any(id(linear) in others for linear in found) else tuple(found)


def writer(slot: Slot, architecture: Architecture) -> nn.Linear | None:
    """The map whose output is what the slot's branch adds to the stream; None where something follows it."""
    assert slot.branch is not None
    x = _probe(slot.branch, architecture)
    found = {_probed_writer(slot.branch, x, mask) for mask in _masks(slot, architecture)}
    return found.pop() if len(found) == 1 else None


def _probed_writer(branch: nn.Module, x: Tensor, mask: Tensor | None) -> nn.Linear | None:
    made: list[tuple[nn.Linear, Tensor]] = []

    def note(linear: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(linear, nn.Linear)
        made.append((linear, output))

    handles = [linear.register_forward_hook(note) for linear in _linears(branch)]
    try:
        with torch.inference_mode(False), torch.no_grad():
            y = branch(x, mask)
    finally:
        for handle in handles:
            handle.remove()
    return next((linear for linear, output in made if output is y), None)


def _probed_readers(branch: nn.Module, x: Tensor, mask: Tensor | None) -> tuple[nn.Linear, ...] | None:
    read: dict[nn.Linear, None] = {}
    with torch.inference_mode(False), torch.enable_grad():
        x = x.requires_grad_()

        def cut(linear: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            if inputs[0] is not x:
                return inputs
            assert isinstance(linear, nn.Linear)
            read[linear] = None
            return (x.detach(),)

        handles = [linear.register_forward_pre_hook(cut) for linear in _linears(branch)]
        try:
            y = branch(x, mask)
        finally:
            for handle in handles:
                handle.remove()
    return None if y.requires_grad else tuple(read)


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [child for child in module.modules() if isinstance(child, nn.Linear)]


def _probe(branch: nn.Module, architecture: Architecture) -> Tensor:
    """Tokens for a branch; all of an image, whose grid a mixer may need."""
    some = next(branch.parameters(), None)
    tokens = architecture.tokens if architecture.interface.input == "image" else PROBE_TOKENS
    shape = 1, min(tokens, architecture.tokens), architecture.d_model
    return torch.linspace(-1.0, 1.0, shape[1] * shape[2]).reshape(shape).to(some)


def _masks(slot: Slot, architecture: Architecture) -> tuple[Tensor | None, ...]:
    """A branch may look at its input another way when there is padding."""
    if slot.layer is not None and architecture.layers[slot.layer].mixer.padding == "packed":
        return (None,)
    tokens = architecture.tokens
    if architecture.interface.input != "image":
        tokens = min(tokens, PROBE_TOKENS)
    return None, torch.ones(1, tokens, dtype=torch.bool)
