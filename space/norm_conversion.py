"""Layer norms of a trained pre-norm model as RMS norms, exactly, and these with one channel less.

    rms    every map that writes into the stream, and the embedding, lose their mean over the channels; tokens
           then have mean 0, where layer norm is x / sqrt(mean(x^2) + eps), gain and bias going into the maps
           that read it
    crms   the last channel is minus the sum of the others: maps that write drop it, maps that read become
           W'_k = W_k - W_d, the norm `CRMSNorm`

Source: Jiang et al. 2023, arXiv:2305.14858. Post-norm models, RMS norms, and branches that do not end (crms:
and start) with linear maps have no such form.
"""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from .architecture import Architecture
from .choice import Norm
from .embedding import (
    ByteEmbedding,
    ClassifierHead,
    ClassToken,
    FactorisedEmbedding,
    FactorisedHead,
    LanguageModelHead,
    PatchEmbedding,
    TiedHead,
    ValuesEmbedding,
)
from .errors import UnsupportedError
from .norm_folding import Affine, Slot, absorb, readers, slots_of, writer
from .norms.crmsnorm import CRMSNorm, UnscaledRMSNorm
from .norms.layernorm import EPS, LayerNorm

ExportNorm = Literal["keep", "rms", "crms"]


def convert_norms(model: nn.Module, architecture: Architecture, export_norm: ExportNorm) -> None:
    """Converts a copy in evaluation mode in place.

    Raises:
        UnsupportedError: a part that cannot be converted exactly; the message names it.
    """
    is_slim = export_norm == "crms"
    _untie(model)
    slots = list(slots_of(model))
    for slot in slots:
        _check_layernorm(slot)
    writers = dict.fromkeys(_writer(slot, architecture) for slot in slots if slot.layer is not None)
    # all found before any is changed: afterwards the branches no longer have the width of the probe
    reading = {slot: _readers(slot, slots, architecture, is_slim=is_slim) for slot in slots}
    for weight, axis in _sources(model):
        _change(weight, weight - weight.mean(axis, keepdim=True))
    for linear in writers:
        _change(linear.weight, linear.weight - linear.weight.mean(0, keepdim=True))
        if linear.bias is not None:
            _change(linear.bias, linear.bias - linear.bias.mean())
    for slot, maps in reading.items():
        _convert(slot, maps, is_slim=is_slim)
    if is_slim:
        _drop_channel(model, writers, dict.fromkeys(linear for maps in reading.values() for linear in maps))


class Scaled(Norm):
    """A norm without gain, then gain and bias where no maps could take them."""

    def __init__(self, unscaled: Norm, affine: Affine) -> None:
        super().__init__()
        self.unscaled, self.affine = unscaled, affine

    def forward(
        self, x: Float[Tensor, "*axes d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "*axes d_model"]:
        y: Tensor = self.affine(self.unscaled(x))
        return y


def _check_layernorm(slot: Slot) -> None:
    where = "the final norm" if slot.layer is None else f"layer {slot.layer}: the norm"
    if not isinstance(slot.norm, LayerNorm):
        raise UnsupportedError(f"{where} is no layer norm, which alone can be converted; keep the norms")
    if slot.branch is None:
        raise UnsupportedError(
            f"{where} stands behind its branch (placement 'post') and cannot be converted; keep the norms"
        )


def _writer(slot: Slot, architecture: Architecture) -> nn.Linear:
    found = writer(slot, architecture)
    if found is None:
        assert slot.layer is not None
        layer = architecture.layers[slot.layer]
        kind = layer.mixer.kind if slot.name == "mixer_norm" else layer.feed_forward.kind
        raise UnsupportedError(
            f"layer {slot.layer}: '{kind}' does not end with a linear map and so cannot be centred; "
            "keep the norms"
        )
    return found


def _readers(
    slot: Slot, slots: list[Slot], architecture: Architecture, *, is_slim: bool
) -> tuple[nn.Linear, ...]:
    """The maps that alone read a slot; () where something else does."""
    found = readers(slot, slots, architecture)
    head = slot.branch
    if found is None and is_slim and isinstance(head, ClassifierHead) and head.pooling != "max":
        # exact but for an input without any real token, whose mean is 0 and not the shift
        found = (head.projection,)
    if found or not is_slim:
        return found or ()
    where = "the head" if slot.layer is None else f"layer {slot.layer}: '{slot.name}'"
    raise UnsupportedError(
        f"{where} is not read by linear maps of its own alone, so that no channel can be dropped; "
        "export the norms as rms"
    )


def _convert(slot: Slot, maps: tuple[nn.Linear, ...], *, is_slim: bool) -> None:
    norm = slot.norm
    assert isinstance(norm, LayerNorm)
    gain, bias = norm.gain.detach(), norm.bias.detach()
    for linear in maps:
        absorb(linear, gain, bias)
    unscaled: Norm = CRMSNorm(EPS) if is_slim else UnscaledRMSNorm(EPS)
    slot.put(unscaled if maps else Scaled(unscaled, Affine(gain, bias)))


def _untie(model: nn.Module) -> None:
    """The head keeps the weights that the embedding had before it was centred."""
    head, embedding = model.get_submodule("head"), model.get_submodule("embedding")
    if not isinstance(head, TiedHead):
        return
    if isinstance(embedding, FactorisedEmbedding):
        own: nn.Module = FactorisedHead(embedding)
    else:
        weight = embedding.get_parameter("weight")
        own = LanguageModelHead(weight.shape[1], weight.shape[0])
        own.projection.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    model.add_module("head", own.eval().requires_grad_(False))


def _sources(model: nn.Module) -> list[tuple[Tensor, int]]:
    """What tokens are made of, and its axis of channels: embedding and positions."""
    embedding, position = model.get_submodule("embedding"), model.get_submodule("position")
    found: list[tuple[Tensor, int]] = []
    if isinstance(embedding, ClassToken):
        found.append((embedding.weight, -1))
        embedding = embedding.tokens
    if isinstance(embedding, ByteEmbedding):
        found.append((embedding.weight, -1))
    elif isinstance(embedding, PatchEmbedding):
        found.append((embedding.weight, 0))
    elif isinstance(embedding, (ValuesEmbedding, FactorisedEmbedding)):
        found.append((embedding.projection.weight, 0))
    tables = [*position.parameters(), *position.buffers()]
    if any(table.ndim != 2 for table in tables):
        raise UnsupportedError(f"positions of {type(position).__name__} cannot be centred; keep the norms")
    return found + [(table, -1) for table in tables]


def _drop_channel(model: nn.Module, writers: dict[nn.Linear, None], reading: dict[nn.Linear, None]) -> None:
    for weight, axis in _sources(model):
        _change(weight, weight.narrow(axis, 0, weight.shape[axis] - 1).clone())
    for linear in writers:
        _change(linear.weight, linear.weight[:-1].clone())
        if linear.bias is not None:
            _change(linear.bias, linear.bias[:-1].clone())
        linear.out_features -= 1
    for linear in reading:
        _change(linear.weight, linear.weight[:, :-1] - linear.weight[:, -1:])
        linear.in_features -= 1


def _change(tensor: Tensor, values: Tensor) -> None:
    """In place, also to another shape."""
    tensor.data = values.detach()
