"""The decode step of a decoder as an ONNX graph of its own; every layer's state goes in and comes out.

    logits, next.0.keys, ... = step(token, position, state.0.keys, ...)

`token` int64 [batch], `position` int64 [] (tokens before this one), `state.<layer>.<name>` as `Mixer.step`
keeps it, batch first; the axis of tokens is free where a mixer keeps them all. Output `logits` [batch,
outputs] and the next state in the order of the inputs. A prompt goes in token by token.

The state before any token is not zero everywhere (places without a token are marked), so it stands beside the
graph as arrays: `step_state.npz`, batch 1, names and order of the inputs.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from ..architecture import Architecture
from ..choice import State
from ..errors import UnsupportedError
from ..model import Model
from ..number_formats import apply_number_formats
from .onnx import DynamicAxes, export_graph, require_onnx_formats, written_whole
from .products import onnx_form

STEP_STATE = "step_state.npz"
TRACED_STEPS = 3
"""Tokens in the state that is traced: none of its axes is 0 or 1 by chance."""


def has_step(architecture: Architecture) -> bool:
    """Whether models of it take one token after the other."""
    is_language = architecture.interface.input == "bytes" and architecture.head.kind == "language"
    decodes = all(layer.mixer.decodable for layer in architecture.layers)
    return architecture.is_causal and is_language and decodes


def export_step(
    model: Model, architecture: Architecture, path: Path, *, calibration: Tensor | None = None
) -> Path:
    """Writes one decode step of `model` (the fp32 form) in `architecture`'s number formats; returns `path`.

    Raises:
        UnsupportedError: the model does not run token by token, or an operator has no ONNX form.
    """
    require_onnx_formats(architecture)
    running = onnx_form(apply_number_formats(model, architecture, calibration=calibration))
    # the state is the same in every number format, but only maps with float weights know their device
    plain = apply_number_formats(model, architecture.with_number_format("fp32")).eval()
    assert isinstance(running, Model)
    assert isinstance(plain, Model)
    with torch.inference_mode():
        first, state = plain.init_state(2), _after(plain, TRACED_STEPS)
    names = [list(kept) for kept in first]
    inputs = {
        "token": torch.zeros(2, dtype=torch.int64),
        "position": torch.tensor(TRACED_STEPS),
        **{f"state.{layer}.{name}": state[layer][name] for layer, name in _each(names)},
    }
    outputs = ["logits", *(f"next.{layer}.{name}" for layer, name in _each(names))]
    graph = StepGraph(running, names)
    with written_whole(path) as unfinished:
        try:
            export_graph(graph, inputs, outputs, _free_axes(first, state), unfinished)
        except UnsupportedError as error:
            raise UnsupportedError(f"decode step: {error.message}") from error
        _with_every_input(unfinished, inputs)
    return path


def write_first_state(model: Model, path: Path) -> Path:
    """Writes the state before any token, batch 1; returns `path`."""
    first = model.init_state(1)
    arrays = {
        f"state.{layer}.{name}": value.detach().numpy()
        for layer, kept in enumerate(first)
        for name, value in kept.items()
    }
    with written_whole(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # its stubs take keywords for allow_pickle
    return path


class StepGraph(nn.Module):
    """`Model.step` with the state as a flat row of tensors; `names`: those of each layer, in their order."""

    def __init__(self, model: Model, names: Sequence[Sequence[str]]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, token: Tensor, position: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        flat = iter(state)
        before = [{name: next(flat) for name in names} for names in self.names]
        logits, after = self.model.step(token, before, position)
        kept = (layer[name] for layer, names in zip(after, self.names, strict=True) for name in names)
        return (logits, *kept)


def _after(model: Model, steps: int) -> list[State]:
    """The state of two sequences after so many tokens."""
    state = model.init_state(2)
    for position in range(steps):
        _, state = model.step(torch.zeros(2, dtype=torch.int64), state, torch.tensor(position))
    return state


def _each(names: Sequence[Sequence[str]]) -> Iterator[tuple[int, str]]:
    """Layer and name of every state tensor, in the order of the graph."""
    for layer, kept in enumerate(names):
        for name in kept:
            yield layer, name


def _free_axes(first: Sequence[State], state: Sequence[State]) -> DynamicAxes:
    """The batch everywhere, and of a state the axes that tokens make longer."""
    axes: dict[str, dict[int, str]] = {"token": {0: "batch"}, "logits": {0: "batch"}}
    for layer, name in _each([list(kept) for kept in first]):
        empty, kept = first[layer][name], state[layer][name]
        grown = [axis for axis in range(1, kept.dim()) if kept.shape[axis] != empty.shape[axis]]
        for side in ("state", "next"):
            free = {axis: f"{side}.{layer}.{name}.{axis}" for axis in grown}
            axes[f"{side}.{layer}.{name}"] = {0: "batch", **free}
    return axes


def _with_every_input(path: Path, inputs: Mapping[str, Tensor]) -> None:
    """Puts back inputs that the exporter left out because nothing reads them, so that every step takes the
    same: without a position choice that is `position`."""
    model = onnx.load(path)
    present = {value.name: value for value in model.graph.input}
    kinds = {torch.int64: onnx.TensorProto.INT64, torch.float32: onnx.TensorProto.FLOAT}
    for name in inputs.keys() - present.keys():
        value = inputs[name]
        present[name] = onnx.helper.make_tensor_value_info(name, kinds[value.dtype], [None] * value.dim())
    del model.graph.input[:]
    model.graph.input.extend(present[name] for name in inputs)
    onnx.save(model, path)
