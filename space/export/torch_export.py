"""Architecture and weights -> one `.pt2` program in the architecture's number formats; PyTorch alone runs it.

    program = torch.export.load("model.pt2").module()
    logits = program(tokens)

Batch and length are free, up to the context length. The tracer notes what it was told about sizes and
strides while it traced one input ("not 1", "not 80"), and a loaded program would refuse every input for which
such a note is false, a batch of one first of all. The written program keeps the largest length alone; that it
gives what the model gives is checked by running it, at batch 1 and 3 and a dozen lengths from 1 to the full.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.fx.experimental._config as shape_config
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..architecture import Architecture
from ..errors import UnsupportedError
from ..number_formats import apply_number_formats
from .onnx import example_input, input_shape

PROGRAM = "model.pt2"
LENGTH = re.compile(r"L\['\w+'\]\.size\(\)\[1\] <= \d+")
"""The note that is kept."""
TOLERANCE = 1e-3
"""Largest difference over the root mean square of the model's logits: the same operators, but for sums in
another order."""


def export_program(
    model: nn.Module, architecture: Architecture, path: Path, *, calibration: Tensor | None = None
) -> Path:
    """Writes `model` (the fp32 form) in `architecture`'s number formats; returns `path`.

    Raises:
        UnsupportedError: a layer has no such form, or its form depends on the batch or the length.
    """
    running = apply_number_formats(model, architecture, calibration=calibration)
    try:
        program = _traced(running, architecture)
        written = io.BytesIO()
        torch.export.save(program, written)
        found = torch.export.load(io.BytesIO(written.getvalue())).module()
        _compare(found, running, architecture)
    except UnsupportedError:
        raise
    except Exception as error:  # tracing fails in many types, all of them mean that there is no such form
        message = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise UnsupportedError(
            f"{guilty_layer(running, architecture)}: no torch.export form: {message}"
        ) from error
    path.write_bytes(written.getvalue())
    return path


def _traced(running: nn.Module, architecture: Architecture) -> ExportedProgram:
    free: dict[int, Any] = {0: Dim.AUTO}
    if architecture.interface.input != "image":
        free[1] = Dim.AUTO
    with (
        torch.no_grad(),
        _sizes_left_open(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of the tracer about itself
        example = _input(architecture, 2, max(1, architecture.tokens - 1))
        program = torch.export.export(running, (example,), dynamic_shapes=(free,), strict=False)
    program._guards_code = [guard for guard in program._guards_code if LENGTH.fullmatch(guard)]
    return program


@contextmanager
def _sizes_left_open() -> Iterator[None]:
    """The tracer does not take a size for 1 or more than 1 where it can leave that open."""
    before = shape_config.backed_size_oblivious
    shape_config.backed_size_oblivious = True
    try:
        yield
    finally:
        shape_config.backed_size_oblivious = before


def _compare(found: nn.Module, running: nn.Module, architecture: Architecture) -> None:
    """Raises UnsupportedError where the program gives other logits than the model, or refuses a size."""
    for batch, tokens in _sizes(architecture):
        x = _input(architecture, batch, tokens)
        with torch.inference_mode():
            expected, logits = running(x), found(x)
        scale = expected.square().mean().sqrt().clamp(min=1e-12)
        difference = float((logits - expected).abs().max() / scale)
        if not difference <= TOLERANCE:
            raise UnsupportedError(
                f"the exported program differs by {difference:.3g} at batch {batch}, length {tokens}"
            )


def _sizes(architecture: Architecture) -> Iterator[tuple[int, int]]:
    """Batch 1 and 3; lengths around 1, powers of two, the half and the whole."""
    n = architecture.tokens
    around = {size + more for size in (2, 7, 16, 32, n // 2, n) for more in (-1, 0, 1)}
    is_image = architecture.interface.input == "image"
    lengths = {n} if is_image else {size for size in around if 1 <= size <= n}
    yield from ((batch, tokens) for batch in (1, 3) for tokens in sorted(lengths))


def _input(architecture: Architecture, batch: int, tokens: int) -> Tensor:
    """Random, and the same every time."""
    generator = torch.Generator().manual_seed(batch * 10_000 + tokens)
    shape = input_shape(architecture, batch, tokens)
    _, example = example_input(architecture)
    if example.dtype == torch.int64:
        below = getattr(architecture.interface, "vocab_size", 2)
        return torch.randint(0, below, shape, generator=generator)
    return torch.randn(shape, generator=generator)


def guilty_layer(running: nn.Module, architecture: Architecture) -> str:
    """The first block that cannot be exported alone."""
    blocks = running.get_submodule("blocks")
    x = torch.zeros(2, max(1, architecture.tokens - 1), architecture.d_model)
    if architecture.interface.input == "image":
        x = torch.zeros(2, architecture.tokens + architecture.class_tokens, architecture.d_model)
    for index, layer in enumerate(architecture.layers):
        block = blocks.get_submodule(str(index))
        try:
            with torch.no_grad(), _sizes_left_open():
                free = (
                    {0: Dim.AUTO} if architecture.interface.input == "image" else {0: Dim.AUTO, 1: Dim.AUTO}
                )
                torch.export.export(block, (x,), dynamic_shapes=(free,), strict=False)
        except Exception:  # whatever it is, the block is the one
            return f"layer {index} ({layer.mixer.kind}, {layer.feed_forward.kind})"
    return "embedding, position or head"
