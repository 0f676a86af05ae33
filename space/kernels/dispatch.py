"""Which form computes: a fused kernel where device, type and shape allow it, the plain form everywhere else.

    if (run := fused("rms_norm", x, gain)) is not None:
        return run(x, gain, EPS)

A module asks here and nowhere else. Triton is imported when the first kernel is chosen, so that a machine
without a GPU never pays for it. Why a kernel was not taken is logged once, and noted for whoever records it
(`recorded`: a latency is stored with what computed it). Exported graphs hold the plain form, and so does
generated code, which leaves out every branch written like this one.
"""

import contextlib
import importlib
import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Mode = Literal["auto", "never", "interpreter"]
"""auto: on GPUs. never: plain forms. interpreter: on CPU tensors too, for tests (TRITON_INTERPRET=1)."""

HAS_TRITON = importlib.util.find_spec("triton") is not None

FLOATS = (torch.float32, torch.float16, torch.bfloat16)

PACKED_ROWS = 16
"""Rows up to which a product from packed weights is worth it."""

BOTH_WAYS = "sums over past and future"
PADDING = "padded tokens"
OBSERVED = "a module inside is observed"
MANY_ROWS = f"more than {PACKED_ROWS} rows: weights are written out once"
"""Reasons of callers."""

WIDEST_ROW = 16_384
"""Numbers of a row that one program holds in registers: twice as many, and gradients live in memory."""
WIDEST_QUANTIZED = 32_768
"""The same where a row is only rounded."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """Where a kernel is, and what its first tensor may look like."""

    module: str
    function: str
    widest: int
    """Largest last axis."""
    trains: bool = True
    """Has a gradient."""
    multiplies: bool = False
    """Has matrix products, whose types autocast chooses."""


KERNELS: Mapping[str, Kernel] = {
    "rms_norm": Kernel("rms_norm", "rms_norm", WIDEST_ROW),
    "crms_norm": Kernel("rms_norm", "crms_norm", WIDEST_ROW),
    "add_rms_norm": Kernel("rms_norm", "add_rms_norm", WIDEST_ROW),
    "poly_norm": Kernel("poly_norm", "poly_norm", WIDEST_ROW),
    "poly_relu": Kernel("poly_relu", "poly_relu", 2**31),
    "gated": Kernel("gates", "gated", 2**31),
    "relu2": Kernel("gates", "relu2", 2**31),
    "faded_sums": Kernel("scan", "faded_sums", 128, multiplies=True),
    "faded_step": Kernel("scan", "faded_step", 128, trains=False, multiplies=True),
    "window_attention": Kernel("attention", "window_attention", 128, multiplies=True),
    "depthwise": Kernel("depthwise", "depthwise", 2**31, multiplies=True),
    "int8_linear": Kernel("int8", "int8_linear", WIDEST_QUANTIZED, trains=False),
    "int8_mixed_linear": Kernel("int8", "int8_mixed_linear", WIDEST_QUANTIZED, trains=False),
    "int4_linear": Kernel("packed_linear", "int4_linear", 2**31, trains=False),
    "fp4_linear": Kernel("packed_linear", "fp4_linear", 2**31, trains=False),
    "expert_linear": Kernel("experts", "expert_linear", 2**31, multiplies=True),
}
"""Name -> kernel; widths of heads are those of queries and keys."""

_mode: Mode = "auto"
_notes: list[dict[str, str]] = []
_logged: set[tuple[str, str]] = set()
_loaded: dict[str, Callable[..., Any]] = {}


def fused(
    name: str,
    *tensors: Tensor,
    unless: str | Callable[[], str | None] | None = None,
    width: int | None = None,
) -> Callable[..., Any] | None:
    """The kernel of this name for these tensors, or None: the plain form computes.

    `unless`: a reason of the caller's own, such as padding that the kernel does not know, or a function that
    looks for one. `width`: of the heads that will be made of the tensors, else the first one's last axis.
    """
    if _mode == "auto" and tensors[0].is_cpu and not _notes:
        return None
    reason = reason_against(name, tensors, width=width) or (unless() if callable(unless) else unless)
    if not torch.compiler.is_compiling():
        _note(name, reason)
    return _loaded[name] if reason is None and _load(name) else None


def many_rows(x: Tensor) -> str | None:
    """Why packed weights are written out once instead: enough rows share them."""
    rows = x.numel() // x.shape[-1]
    return None if rows <= PACKED_ROWS else MANY_ROWS


def reason_against(name: str, tensors: tuple[Tensor, ...], *, width: int | None = None) -> str | None:
    """Why this kernel does not run on these tensors; None: it does."""
    kernel, first = KERNELS[name], tensors[0]
    if _mode == "never":
        return "kernels are switched off"
    if first.device.type != "cuda" and not (_mode == "interpreter" and first.device.type == "cpu"):
        return f"no kernels on {first.device.type}"
    if torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting():
        return "exported graphs hold the plain form"
    if not HAS_TRITON:
        return "triton is not installed"
    if not torch.compiler.is_compiling() and any(map(_is_transformed, tensors)):
        return "inside a transformation of torch.func"
    return _unfit(kernel, tensors, first.shape[-1] if width is None else width)


def _is_transformed(tensor: Tensor) -> bool:
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))


def _unfit(kernel: Kernel, tensors: tuple[Tensor, ...], width: int) -> str | None:
    """What speaks against types and shapes."""
    first = tensors[0]
    types = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    if first.dtype not in FLOATS:
        return f"no kernel for {first.dtype}"
    if kernel.multiplies and torch.is_autocast_enabled(first.device.type):
        return "autocast chooses the types of products"
    if len(types) > 1:
        return "mixed types: " + ", ".join(sorted(str(one) for one in types))
    if any(tensor.device != first.device for tensor in tensors):
        return "tensors on several devices"
    if first.numel() == 0:
        return "nothing to compute"
    if width > kernel.widest:
        return f"width {width} is more than {kernel.widest}"
    if not kernel.trains and torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return "has no gradient"
    return None


@contextlib.contextmanager
def kernels(mode: Mode) -> Iterator[None]:
    """Inside, kernels are chosen like this."""
    global _mode
    before, _mode = _mode, mode
    try:
        yield
    finally:
        _mode = before


@contextlib.contextmanager
def recorded() -> Iterator[dict[str, str]]:
    """Kernel -> "fused", or why the plain form computed, of everything that runs inside; the last one counts
    unless a plain form was there before."""
    seen: dict[str, str] = {}
    _notes.append(seen)
    try:
        yield seen
    finally:
        _notes.remove(seen)


def _note(name: str, reason: str | None) -> None:
    for seen in _notes:
        if reason is not None or name not in seen:
            seen[name] = reason or "fused"
    if reason is not None and _mode == "auto" and (name, reason) not in _logged and "on cpu" not in reason:
        _logged.add((name, reason))
        log.info("a plain form computes instead of a kernel", extra={"kernel": name, "reason": reason})


def _load(name: str) -> bool:
    """Imports the kernel's file where that has not happened."""
    if name not in _loaded:
        kernel = KERNELS[name]
        module = importlib.import_module(f"{__package__}.fused.{kernel.module}")
        _loaded[name] = getattr(module, kernel.function)
    return True


# Where a call is traced it runs at once and leaves a constant: the mark that
# `torch.compiler.assume_constant_result` sets, which itself would import the compiler here.
_load.__dict__["_dynamo_marked_constant"] = True
