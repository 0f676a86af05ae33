"""How fast the fused kernels are on a GPU, beside their plain twins, torch.compile and other libraries.

    python -m benchmarks.kernels [--json FILE] [--only NAME] [--check]

Per case and pass (forward, backward), in seconds: median of Triton's `do_bench` (which clears the L2 cache
before every run) over inputs that rotate until they are twice as large as that cache; random data, bf16.
Every kernel is compared with its plain form before it is timed. torch.compile compiles each case anew, for
its sizes alone. What fails says why and the others go on; the file is written after every case. Shares: bytes
that must move over the measured bandwidth of a copy, or multiply-adds over the measured rate of a product.
`--check` compares all cases in small sizes, on a CPU in Triton's interpreter (float16, TRITON_INTERPRET=1),
and times nothing.

Without a GPU it says so and ends with 2. It has been checked on a CPU; on a GPU it has not run yet.
"""

import argparse
import json
import math
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
import torch._functorch.config
from torch import Tensor

from .kernel_cases import Case, Form, Sizes, cases

Seconds = dict[str, float]
COPIED = 2**30
"""Bytes of the copy that measures the bandwidth."""
SIDE = 8192
"""Of the products that measure rates."""


def seconds(calls: list[Callable[[], Any]]) -> Seconds:
    """Median and range of the calls in turn."""
    from triton.testing import do_bench

    turn = cycle(calls)
    low, median, high = do_bench(lambda: next(turn)(), quantiles=[0.1, 0.5, 0.9])
    return {"median_s": median / 1e3, "p10_s": low / 1e3, "p90_s": high / 1e3}


def roofs() -> dict[str, float]:
    """Bytes a second of a copy (read and written), multiply-adds a second of bf16 and int8 products."""
    source = torch.randint(0, 100, (COPIED,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    a, b = (torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    i, j = (torch.randint(-127, 127, (SIDE, SIDE), device="cuda", dtype=torch.int8) for _ in range(2))
    return {
        "copy": 2 * COPIED / seconds([lambda: target.copy_(source)])["median_s"],
        "bf16": SIDE**3 / seconds([lambda: a @ b])["median_s"],
        "int8": SIDE**3 / seconds([lambda: torch._int_mm(i, j.T)])["median_s"],
    }


def results_of(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


def compare(case: Case) -> float:
    """Largest difference of kernel and twin over the twin's largest number, of results and gradients."""
    parts = case.inputs()
    leaves = [part for part in parts if isinstance(part, Tensor) and part.requires_grad]
    found = []
    for form in (case.run, case.twin):
        values = results_of(form(*parts))
        if case.bytes_backward:
            pulls = [torch.ones_like(value) for value in values]
            values = values + list(torch.autograd.grad(values, leaves, pulls))
        found.append([value.detach().float() for value in values])
    worst = max(difference(a, b, case.stepped) for a, b in zip(*found, strict=True))
    if not worst <= case.tolerance:
        raise AssertionError(f"{case.name}, {case.shape}: kernel and twin differ by {worst:.2g}")
    return worst


def difference(found: Tensor, expected: Tensor, stepped: float) -> float:
    """Largest but for a share of `stepped` of the numbers, over the largest expected one; NaN stays NaN."""
    apart = (found - expected).abs().flatten().sort().values
    largest = apart[-1] if apart.isnan().any() else apart[math.ceil((1 - stepped) * apart.numel()) - 1]
    return float(largest / expected.abs().max().clamp(min=1.0))


def timed(case: Case, rates: dict[str, float]) -> dict[str, Any]:
    """Every form's times, forward and backward; a form that does not run says why."""
    sets = [case.inputs() for _ in range(copies(case))]
    forms: dict[str, Form] = {
        "kernel": case.run,
        "eager": case.twin,
        "torch.compile": compiled(case.twin),
    }
    found: dict[str, Any] = {"name": case.name, "shape": case.shape, "difference": compare(case), "forms": {}}
    for name, form in forms.items():
        calls = [partial(form, *parts) for parts in sets]
        found["forms"][name] = tried(lambda calls=calls: one_form(calls, sets, case))  # type: ignore[misc]
    for name, rival in case.rivals.items():
        found["forms"][name] = tried(
            lambda rival=rival: one_form([rival(*parts) for parts in sets], sets, case)  # type: ignore[misc]
        )
    kernel = found["forms"]["kernel"]
    for phase, needed in (("forward", case.bytes), ("backward", case.bytes_backward)):
        if phase in kernel:
            kernel[phase]["share"] = share(case, needed, kernel[phase]["median_s"], rates, phase)
    return found


def compiled(form: Form) -> Form:
    """For the sizes that it meets first, whatever was compiled before; its gradient may be pulled often."""
    torch._dynamo.reset()
    torch._functorch.config.donated_buffer = False
    made: Form = torch.compile(form, dynamic=False)
    return made


def tried(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Of a form or case that does not run, why."""
    try:
        return measure()
    except Exception as problem:  # the failure of one, another library's too, says nothing about the others
        return {"absent": f"{type(problem).__name__}: {problem}"}


def share(case: Case, needed: int, median_s: float, rates: dict[str, float], phase: str) -> float:
    """Of the measured roof that bounds the case; a backward pass has twice the sums."""
    work = needed if case.roof == "copy" else case.sums * (1 if phase == "forward" else 2)
    return work / median_s / rates[case.roof]


def one_form(calls: list[Callable[[], Any]], sets: list[tuple[Any, ...]], case: Case) -> dict[str, Seconds]:
    with torch.no_grad():
        times = {"forward": seconds(calls)}
    if case.bytes_backward:
        times["backward"] = seconds([pull_of(call, parts) for call, parts in zip(calls, sets, strict=True)])
    return times


def pull_of(call: Callable[[], Any], parts: tuple[Any, ...]) -> Callable[[], Any]:
    """The backward pass alone; the graph of one forward pass is kept."""
    values = [value for value in results_of(call()) if isinstance(value, Tensor) and value.requires_grad]
    leaves = [part for part in parts if isinstance(part, Tensor) and part.requires_grad]
    pulls = [torch.randn_like(value) for value in values]
    return lambda: torch.autograd.grad(values, leaves, pulls, retain_graph=True, allow_unused=True)


def copies(case: Case) -> int:
    """Sets of inputs that together are twice as large as the L2 cache, at most 8."""
    cache = torch.cuda.get_device_properties().L2_cache_size
    return min(8, max(2, -(-2 * cache // max(1, case.bytes))))


def check(only: str | None) -> None:
    is_gpu = torch.cuda.is_available()
    at = Sizes(torch.device("cuda" if is_gpu else "cpu"), torch.bfloat16 if is_gpu else torch.float16, True)
    for case in cases(at):
        if only is None or only in case.name:
            print(f"{case.name}, {case.shape}: difference {compare(case):.2g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--only", help="cases whose name contains this")
    parser.add_argument("--check", action="store_true", help="compare small cases, time nothing")
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.check:
        check(options.only)
        return
    if not torch.cuda.is_available():
        print("kernels are timed on a CUDA device, and torch sees none", file=sys.stderr)
        sys.exit(2)
    rates = roofs()
    found: list[dict[str, Any]] = []
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "roofs": rates,
        "cases": found,
    }
    for case in cases(Sizes(torch.device("cuda"), torch.bfloat16, False)):
        if options.only is None or options.only in case.name:
            times = tried(lambda case=case: timed(case, rates))  # type: ignore[misc]
            found.append({"name": case.name, "shape": case.shape, **times})
            print(json.dumps(found[-1]), flush=True)
            if options.json:
                options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
