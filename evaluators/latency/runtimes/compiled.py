"""torch.compile from outside: a fresh process that compiles networks, and then times them when told to.

Compiling takes seconds to minutes and needs no quiet host; timing takes a fraction of a second and needs one.
So the process answers line by line: it compiles while trainings go on, waits, and times under the caller's
lock. Kernels that this host has compiled before are at hand in `cache`, so only the first compilation of an
architecture says what compiling it costs.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from ..estimator import Estimate, EstimatorLimits
from ..target import timing_cores
from .fresh_process import Failure, failure_of, fate_of

PROCESS_FILE = Path(__file__).parent.with_name("compiled_process.py")
COMPILING_S = 900.0
"""Allowed for compiling one network, the start of the process included."""
WARM_UPS_S = 60.0
"""Allowed for warming up, beside twice the time of measuring."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A whole model, or a block of one, as the process builds it: freshly initialised, in its number formats,
    on fixed shapes."""

    architecture: str
    """Canonical JSON; of a block its host."""
    batch_size: int
    tokens: int
    part: str | None = None
    """None: the whole model."""


@dataclass(frozen=True, slots=True)
class CompiledProcess:
    """A fresh process with T cores and T threads, as `compiled_process` opens it."""

    process: "subprocess.Popen[str]"
    errors: IO[str]

    def compile(self, key: str, subject: Subject) -> float | Failure:
        """Seconds that compiling took: the first two calls. `key`: under which `time` finds it. One that
        breaks the graph is compiled in pieces, and its estimates say why."""
        answer = self._answer({"task": "compile", "key": key, "subject": asdict(subject)}, COMPILING_S)
        return failure_of(answer) if "error" in answer else float(answer["compile_s"])

    def time(
        self, key: str, reference: str, limits: EstimatorLimits, long_run_s: float | None
    ) -> Estimate | Failure:
        """One attempt at the latency of a compiled network against another, both by key. The caller holds
        the host (`quiet_host`)."""
        task = {
            "task": "time",
            "key": key,
            "reference": reference,
            "limits": asdict(limits),
            "long_run_s": long_run_s,
        }
        answer = self._answer(task, 2 * limits.max_seconds + WARM_UPS_S)
        return failure_of(answer) if "error" in answer else Estimate(**answer["estimate"])

    def _answer(self, task: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """The line that answers a task; what became of the process when there is none."""
        is_late = threading.Event()

        def kill() -> None:
            is_late.set()
            self.process.kill()

        assert self.process.stdin is not None
        assert self.process.stdout is not None
        timer = threading.Timer(timeout_s, kill)
        timer.start()
        try:
            self.process.stdin.write(json.dumps(task) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if line.endswith("}\n"):
            answer: dict[str, Any] = json.loads(line)
            return answer
        if is_late.is_set():
            return {"error": f"no answer after {timeout_s:g} s", "reason": "timeout"}
        code = self.process.wait()
        self.errors.seek(0)
        return fate_of(code, self.errors.read())


@contextlib.contextmanager
def compiled_process(*, threads: int, cache: Path) -> Iterator[CompiledProcess]:
    """Starts it, and kills it at the end."""
    cache.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TORCHINDUCTOR_CACHE_DIR": str(cache),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # a pool of compilers would stay, beside what is timed
    }
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", str(PROCESS_FILE), ",".join(map(str, timing_cores(threads)))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
        try:
            yield CompiledProcess(process, errors)
        finally:
            process.kill()
            process.communicate()
