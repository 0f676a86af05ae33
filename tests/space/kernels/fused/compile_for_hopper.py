"""Compiles every kernel for compute capability 9.0 without a GPU: run as a program, by `test_compiling`.

    python tests/space/kernels/fused/compile_for_hopper.py [NAME...]

The kernels' own launching code runs on CPU tensors; a launch compiles, down to ptxas, and computes nothing. A
program of its own, since a process that interprets kernels cannot compile them. Prints one line per launch:
the kernel, bytes of shared memory, bytes that a thread keeps in memory for want of registers, and its warps.
"""

import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)
os.environ["TRITON_DEFAULT_FP_FUSION"] = "1"  # as `launch` says, which is imported later than Triton here

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

SHARED_MEMORY = 232_448
"""Bytes that one program may take on an H100."""
SPILLED = 3072
"""Bytes that a thread may keep in memory: ptxas has given up on registers where it is more."""
READER = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


class NoDevice:
    """What compiling asks of a driver."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


def spilled_bytes(machine_code: bytes) -> int:
    """Of a thread's stack."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(machine_code)
        file.flush()
        said = subprocess.run([READER, "-res-usage", file.name], capture_output=True, text=True, check=True)
    found = re.search(r"STACK:(\d+)", said.stdout)
    assert found, said.stdout
    return int(found[1])


def compile_instead_of_launching(seen: set[tuple[str, str]]) -> None:
    compile_or_launch = JITFunction.run

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        compiled = compile_or_launch(self, *args, grid=grid, warmup=True, **kwargs)
        name = f"{self.fn.__module__.rpartition('.')[2]}.{self.fn.__name__}"
        if (name, compiled.hash) not in seen:
            seen.add((name, compiled.hash))
            used = compiled.metadata.shared
            assert used <= SHARED_MEMORY, f"{name}: {used} bytes of shared memory"
            spilled = spilled_bytes(compiled.asm["cubin"])
            assert spilled <= SPILLED, f"{name}: {spilled} bytes of registers in memory"
            sys.stdout.write(f"{name} shared {used} spilled {spilled} warps {compiled.metadata.num_warps}\n")
        return compiled

    driver.set_active(NoDevice())
    JITFunction.run = run


def parts(dtype: torch.dtype, *shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.zeros(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def pull(result: Tensor | tuple[Tensor, ...]) -> None:
    """Runs the gradient too."""
    results = [result] if isinstance(result, Tensor) else list(result)
    torch.autograd.backward(results, [torch.zeros_like(one) for one in results])


def row_kernels(dtype: torch.dtype) -> None:
    from space.kernels.fused.gates import ACTIVATIONS, gated, relu2
    from space.kernels.fused.poly_norm import poly_norm
    from space.kernels.fused.poly_relu import poly_relu
    from space.kernels.fused.rms_norm import add_rms_norm, crms_norm, rms_norm

    x, branch, gain, scales, bias = parts(dtype, (8, 512), (8, 512), (512,), (3,), (1,))
    pull(rms_norm(x, gain, 1e-6))
    pull(add_rms_norm(x, branch, gain, 1e-6))
    pull(crms_norm(x, 1e-6))
    pull(poly_norm(x, scales, bias))
    pull(poly_relu(x, scales, bias))
    for activation in ACTIVATIONS:
        pull(gated(x, activation))
    pull(relu2(x))


def scans(dtype: torch.dtype) -> None:
    from space.kernels.fused.scan import faded_step, faded_sums

    for width in (64, 128):
        shape = (1, 2, 128, width)
        q, k, v, vector = parts(dtype, shape, shape, shape, shape)
        (scalar,), (state,) = parts(dtype, shape[:3]), parts(torch.float32, (1, 2, width, width))
        for decay in (None, scalar, vector):
            pull(faded_sums(q, k, v, decay, state))
            one = None if decay is None else decay[:, :, 0]
            faded_step(q[:, :, 0], k[:, :, 0], v[:, :, 0], one, state)


def attention(dtype: torch.dtype) -> None:
    from space.kernels.fused.attention import window_attention

    for width, gamma in itertools.product((64, 128), (None, torch.zeros((), dtype=dtype))):
        shape = (1, 4, 256, width)
        q, k, v = parts(dtype, shape, (1, 2, 256, width), (1, 2, 256, width))
        pull(window_attention(q, k, v, 100, 0, gamma))


def linear_maps(dtype: torch.dtype) -> None:
    from space.kernels.fused.depthwise import depthwise
    from space.kernels.fused.experts import expert_linear
    from space.kernels.fused.int8 import int8_linear, int8_mixed_linear
    from space.kernels.fused.packed_linear import fp4_linear, int4_linear

    x, kernel, bias = parts(dtype, (2, 64, 128), (128, 4), (128,))
    pull(depthwise(x, kernel, bias, 0))
    weight, scale = torch.zeros(256, 512, dtype=torch.int8), torch.zeros(256)
    for rows in (1, 64, 512):
        x = torch.zeros(rows, 512, dtype=dtype)
        int8_linear(x, weight, scale)
        int8_mixed_linear(x, weight, scale)
    codes, zeros = torch.zeros(256, 256, dtype=torch.uint8), torch.zeros(256, 8, dtype=torch.uint8)
    for rows in (1, 8):
        x = torch.zeros(rows, 512, dtype=dtype)
        int4_linear(x, codes, zeros, torch.zeros(256, 16), 32)
        fp4_linear(x, codes, torch.zeros(256, 16, dtype=torch.uint8), 32)
    x, weights = parts(dtype, (100, 128), (4, 256, 128))
    pull(expert_linear(x, weights, torch.tensor([10, 30, 60, 100])))


def sizes_of_one(dtype: torch.dtype) -> None:
    """Triton makes a constant of every size that is 1, which a kernel must not mind."""
    from space.kernels.fused.attention import window_attention
    from space.kernels.fused.depthwise import depthwise
    from space.kernels.fused.experts import expert_linear
    from space.kernels.fused.gates import gated
    from space.kernels.fused.int8 import int8_mixed_linear
    from space.kernels.fused.packed_linear import int4_linear
    from space.kernels.fused.poly_norm import poly_norm
    from space.kernels.fused.rms_norm import add_rms_norm
    from space.kernels.fused.scan import faded_step, faded_sums

    x, branch, gain, scales, packed = parts(dtype, (1, 1), (1, 1), (1,), (3,), (1, 2))
    pull(add_rms_norm(x, branch, gain, 1e-6))
    pull(poly_norm(x, scales, gain))
    pull(gated(packed, "silu"))
    one = (1, 1, 1, 1)
    q, k, v, fade = parts(dtype, one, one, one, one)
    pull(window_attention(q, k, v, 0, 0))
    pull(faded_sums(q, k, v, fade[..., 0]))
    pull(faded_sums(q, k, v, fade))
    faded_step(q[:, :, 0], k[:, :, 0], v[:, :, 0], fade[:, :, 0], torch.zeros(one))
    x, kernel, weights = parts(dtype, (1, 1, 1), (1, 3), (1, 1, 1))
    pull(depthwise(x, kernel, None, 0))
    pull(expert_linear(x[0], weights, torch.tensor([1])))
    int8_mixed_linear(x[0], torch.zeros(1, 1, dtype=torch.int8), torch.zeros(1))
    codes = torch.zeros(1, 16, dtype=torch.uint8)
    int4_linear(x[0].detach(), codes, codes[:, :1], torch.zeros(1, 1), 32)


FAMILIES: dict[str, Callable[[torch.dtype], None]] = {
    "row_kernels": row_kernels,
    "scans": scans,
    "attention": attention,
    "linear_maps": linear_maps,
    "sizes_of_one": sizes_of_one,
}

if __name__ == "__main__":
    compile_instead_of_launching(set())
    for name in sys.argv[1:] or FAMILIES:
        for dtype in (torch.bfloat16, torch.float32):
            FAMILIES[name](dtype)
