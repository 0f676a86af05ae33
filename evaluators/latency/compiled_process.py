"""The fresh process in which compiled torch is timed.

Started as a file (`python -P compiled_process.py CORES`), never imported. Lines of JSON come in, each is
answered by one:

    {"task": "compile", "key", "subject"}                                -> {"compile_s", "graph_break"}
    {"task": "time", "key", "reference", "limits", "long_run_s"}         -> {"estimate"}
    what went wrong                                                      -> {"error", "reason"}

Whole graphs, where nothing breaks them, and fixed shapes; what the compiler cannot take is unsupported. A
compilation while a network is timed makes that time worthless, and is an error.
"""

import ctypes
import json
import os
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported, UserError

from evaluators.latency.blocks import Block
from evaluators.latency.estimator import EstimatorLimits, estimate
from evaluators.latency.timed_input import random_input, timed_input
from space.architecture import Architecture, parse_architecture
from space.model import build_model
from space.number_formats import apply_number_formats

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Compiled:
    """A network as a call on fixed values."""

    call: Callable[[], object]
    graph_break: str
    """Why it is compiled in pieces; empty where it is one graph."""


Networks = dict[str, Compiled]


def main(cores: str) -> int:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # compilers write there as they like
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    pinned = [int(core) for core in cores.split(",")]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, pinned)
    torch.set_num_threads(len(pinned))
    networks: Networks = {}
    with torch.inference_mode():
        for line in sys.stdin:
            answers.write(json.dumps(answered(json.loads(line), networks, len(pinned))) + "\n")
            answers.flush()
    return 0


def answered(task: Mapping[str, Any], networks: Networks, threads: int) -> dict[str, Any]:
    try:
        if task["task"] == "compile":
            network, compile_s = compiled(task["subject"])
            networks[task["key"]] = network
            return {"compile_s": compile_s, "graph_break": network.graph_break}
        return timed(task, networks, threads)
    except MemoryError as error:
        return {"error": str(error), "reason": "out_of_memory"}
    except Exception as error:  # the border of this process: the parent decides what it means
        traceback.print_exc()
        text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        if task["task"] == "compile":
            return {"error": f"torch.compile: {text}", "reason": "unsupported_operator"}
        return {"error": text, "reason": "internal"}


def compiled(subject: Mapping[str, Any]) -> tuple[Compiled, float]:
    """The network as a call on fixed values, and how long its first two calls took.

    What looks at values in Python breaks the graph: then it is compiled in pieces, with what stands between
    them left to eager torch, as whoever deploys it gets it.
    """
    network, values = built(subject)
    began, why = time.perf_counter(), ""
    form = torch.compile(standing_alone(network.eval()), fullgraph=True, dynamic=False)
    try:
        form(values)
    except (Unsupported, UserError) as error:
        why = str(error).strip().splitlines()[0]
        form = torch.compile(standing_alone(network), dynamic=False)
        form(values)
    form(values)
    return Compiled(lambda: form(values), why), time.perf_counter() - began


def standing_alone(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The network as a function with code of its own: compiled forms are kept by code, so all blocks of a
    kind would be forms of one, told apart in every call and limited in number."""

    def call(values: Tensor) -> Tensor:
        y: Tensor = network(values)
        return y

    return types.FunctionType(call.__code__.replace(), globals(), "call", None, call.__closure__)


def built(subject: Mapping[str, Any]) -> tuple[nn.Module, Tensor]:
    """A whole model or one block, with what it is fed."""
    batch_size, tokens = int(subject["batch_size"]), int(subject["tokens"])
    if subject["part"] is not None:
        host = Architecture.model_validate_json(subject["architecture"])  # built, never a member of a space
        block = Block(subject["part"], host, batch_size, tokens)
        return block.build(), random_input(block.input)
    architecture = parse_architecture(subject["architecture"])
    model = apply_number_formats(build_model(architecture, seed=0), architecture)
    return model, random_input(timed_input(architecture, batch_size, tokens))


def timed(task: Mapping[str, Any], networks: Networks, threads: int) -> dict[str, Any]:
    before = num_graphs()
    network = networks[task["key"]]
    found = estimate(
        network.call,
        networks[task["reference"]].call,
        limits=EstimatorLimits(**task["limits"]),
        long_run_s=task["long_run_s"],
        threads=threads,
    )
    if num_graphs() > before:
        return {"error": "the network was compiled again while it was timed", "reason": "internal"}
    return {"estimate": asdict(replace(found, graph_break=network.graph_break))}


def num_graphs() -> int:
    """Graphs that were compiled so far in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
