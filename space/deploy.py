"""The form of a trained model that inference runs: the same outputs with less to compute.

    a module with a folded form (nested feed-forward, weighted scores)      its folded form
    a norm that is one factor and one shift per channel                     in the maps that read it

Training and checkpoints keep the other form. Where something else than linear maps reads a norm (a pooling, a
mean before a head, weights shared by several norms, a norm behind its branch), the norm stays, as one factor
and one shift; see `norm_folding`.
"""

import copy

from torch import nn

from .architecture import Architecture
from .choice import Foldable, PerChannel
from .norm_conversion import ExportNorm, convert_norms
from .norm_folding import Affine, Folded, absorb, readers, slots_of


def deployed(model: nn.Module, architecture: Architecture, *, export_norm: ExportNorm = "keep") -> nn.Module:
    """A copy in evaluation mode in which everything that folds exactly is folded.

    `export_norm`: turns the layer norms of a pre-norm model into cheaper ones; see `norm_conversion`.

    Raises:
        UnsupportedError: the model has a part that `export_norm` cannot convert exactly.
    """
    copied = copy.deepcopy(model).eval().requires_grad_(False)
    fold_modules(copied)
    fold_norms(copied, architecture)
    if export_norm != "keep":
        convert_norms(copied, architecture, export_norm)
    return copied


def fold_modules(model: nn.Module) -> None:
    """Replaces every module that has a folded form, in place; one that stands in several places once."""
    _fold(model, {})


def _fold(module: nn.Module, done: dict[nn.Module, nn.Module]) -> None:
    for name, child in list(module._modules.items()):
        if child is None:
            continue
        if isinstance(child, Foldable):
            if child not in done:
                done[child] = child.folded().eval().requires_grad_(False)
            setattr(module, name, done[child])
        else:
            _fold(child, done)


def fold_norms(model: nn.Module, architecture: Architecture) -> None:
    """Takes every norm that is `PerChannel` into the maps that read it, in place."""
    slots = list(slots_of(model))
    for slot in slots:
        norm = slot.norm
        if isinstance(norm, PerChannel):
            factor, shift = norm.affine()
            maps = readers(slot, slots, architecture)
            for linear in maps or ():
                absorb(linear, factor, shift)
            slot.put(Affine(factor, shift) if maps is None else Folded())
