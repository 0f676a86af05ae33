"""How numbers, states and architectures are said to a person: for figures, tables, pages and report alike."""

import datetime as dt
import html
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from search.gene_values import number_format
from search.objectives import OBJECTIVES
from search.records import FINAL_JOB_STATES, JOB_TRANSITIONS, JobRecord, Spread, TrialRecord

FORMAT_WORDS: Mapping[str, str] = {
    "fp32": "fp32",
    "bf16": "bf16",
    "int8_dynamic": "int8",
    "int8_mixed": "int8 mixed",
    "int4_g32": "int4 g32",
    "int4_g64": "int4 g64",
    "fp4_g32": "fp4 g32",
}
MIXER_WORDS: Mapping[str, str] = {
    "softmax": "softmax attention",
    "sliding_window": "sliding window",
    "linear_elu": "linear attention",
    "gated_conv": "gated convolution",
    "pool": "pooling",
}
POSITION_WORDS: Mapping[str, str] = {
    "none": "no positions",
    "learned": "learned positions",
    "rope": "RoPE",
    "alibi": "ALiBi",
}
NORM_WORDS: Mapping[str, str] = {"layernorm": "LayerNorm", "rmsnorm": "RMSNorm", "prepbn": "PRepBN"}
ACTIVATION_WORDS: Mapping[str, str] = {"relu": "ReLU", "gelu": "GELU", "silu": "SiLU", "relu2": "ReLU²"}
GLU_WORDS: Mapping[str, str] = {"silu": "SwiGLU", "gelu": "GeGLU", "relu": "ReGLU"}

ORIGIN_WORDS: Mapping[str, str] = {
    "reference": "reference: what one would write down without a search",
    "enqueued": "named in the job file",
    "earlier": "front of an earlier job",
    "start": "homogeneous start of the search",
    "random": "drawn at random",
    "mutation": "mutated from its parent",
    "crossover": "crossed from its parents",
    "model": "proposed by the strategy's model",
}
STATE_MEANING: Mapping[str, str] = {
    "queued": "waiting for a coordinator to take it",
    "running": "proposing, training and measuring",
    "paused": "nothing new starts; resume goes on where it stopped",
    "stopping": "nothing new starts; running work finishes, then the job is complete",
    "completed": "all planned work is done",
    "failed": "it cannot go on",
    "cancelled": "ended by the user; what was counted stays",
}
FINALISTS_TRAIN = "training the finalists and their references with several seeds"
"""What a running job does after its search."""
REASON_WORDS: Mapping[str, str] = {
    "budget_reached": "the trial budget is used up",
    "time_reached": "the time budget is used up",
    "stagnated": "the front stopped growing",
    "user": "asked for by the user",
    "space_exhausted": "every architecture of the space was tried",
    "infeasible": "no architecture meets the constraints",
    "disk_full": "the disk is full",
    "executor_unavailable": "the worker engine cannot be reached",
    "waiting_for_workers": "waiting for workers",
    "internal": "an internal error",
    "invalid_architecture": "no model can be built from it",
    "invalid_result": "the result was not a number",
    "out_of_memory": "it needed more memory than there is",
    "timeout": "it took longer than the limit",
    "diverged": "the training diverged",
    "poison": "it ended its worker more than once",
    "unsupported_operator": "the runtime lacks an operator it needs",
    "dataset_mismatch": "the data set changed",
    "worker_lost": "its worker was lost",
}
ACTION_TARGET: Mapping[str, str] = {
    "pause": "paused",
    "resume": "running",
    "stop": "stopping",
    "cancel": "cancelled",
}
ACTION_MEANING: Mapping[str, str] = {
    "pause": "Nothing new starts; running work goes on.",
    "resume": "Go on where it was paused.",
    "stop": "Nothing new starts; running work finishes, then the job is complete.",
    "cancel": "Running work is ended now; what was counted stays.",
}
_FROM: Mapping[str, frozenset[str]] = {"resume": frozenset({"paused"}), "pause": frozenset({"running"})}


def actions(state: str) -> tuple[str, ...]:
    """What a user may ask of a job in this state, as `JOB_TRANSITIONS` has it.

    >>> actions("paused")
    ('resume', 'stop', 'cancel')
    """
    reachable = JOB_TRANSITIONS.get(state, frozenset())
    return tuple(
        action
        for action, target in ACTION_TARGET.items()
        if target in reachable and state in _FROM.get(action, frozenset({state}))
    )


def plain(text: object) -> str:
    """Text for a figure: Plotly reads some tags in hover text and titles, so they are escaped."""
    return html.escape(str(text), quote=False)


def shown(key: str, value: float) -> str:
    """A value with the unit a person reads.

    >>> shown("latency_s", 0.00123456), shown("error", 0.125), shown("params", 123456)
    ('1.235 ms', '12.5 %', '123.5 k')
    >>> shown("activation_bytes", 5632)
    '5.5 KiB'
    """
    if key in ("params", "active_params") or key.startswith("macs"):
        return _prefixed(value, 1000, ("", "k", "M", "G", "T")).strip()
    if key.endswith("_bytes"):
        return _prefixed(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))
    if key not in OBJECTIVES:
        return f"{value:.4g}"
    objective = OBJECTIVES[key]
    return f"{objective.display_scale * value:.4g} {objective.display_unit}".strip()


def shown_spread(key: str, spread: Spread | None) -> str:
    """Half of the interval in the display unit, without the unit; empty when there is none.

    >>> shown_spread("latency_s", Spread(0.001, 0.0012, 20))
    '± 0.1'
    """
    if spread is None:
        return ""
    scale = OBJECTIVES[key].display_scale if key in OBJECTIVES else 1.0
    return f"± {scale * (spread.high - spread.low) / 2:.2g}"


def _prefixed(value: float, base: int, units: tuple[str, ...]) -> str:
    power = 0
    while abs(value) >= base and power < len(units) - 1:
        value /= base
        power += 1
    return f"{value:.4g} {units[power]}"


def label(key: str) -> str:
    return OBJECTIVES[key].label if key in OBJECTIVES else key.replace("_", " ")


def axis_title(key: str) -> str:
    """Quantity and unit, as every axis has them."""
    objective = OBJECTIVES[key]
    unit = f" ({objective.display_unit})" if objective.display_unit else ""
    return f"{objective.label}{unit}"


def format_word(name: str) -> str:
    return FORMAT_WORDS.get(name, name)


def mixers(architecture: Mapping[str, Any]) -> str:
    """The token mixers with their counts, in order of appearance.

    >>> mixers({"layers": [{"mixer": {"kind": kind}} for kind in ("pool", "softmax", "pool")]})
    'pool ×2 + softmax'
    """
    counts = Counter(str(layer["mixer"]["kind"]) for layer in architecture["layers"])
    return " + ".join(kind + (f" ×{count}" if count > 1 else "") for kind, count in counts.items())


def feed_forwards(architecture: Mapping[str, Any]) -> str:
    """The feed-forwards, or how many different ones there are."""
    words = list(
        dict.fromkeys(feed_forward(layer.get("feed_forward") or {}) for layer in architecture["layers"])
    )
    return words[0] if len(words) == 1 else f"{len(words)} feed-forwards"


def feed_forward(config: Mapping[str, Any]) -> str:
    """One feed-forward in few words; a kind that has no words of its own is named by itself.

    >>> feed_forward({"kind": "glu", "activation": "silu", "d_ff": 168})
    'SwiGLU 168'
    >>> feed_forward({"kind": "none"}), feed_forward({"kind": "moe", "num_experts": 4})
    ('no feed-forward', 'MOE')
    """
    kind = str(config.get("kind", "none"))
    if kind == "none":
        return "no feed-forward"
    activation = str(config.get("activation") or "")
    word = ACTIVATION_WORDS.get(activation, activation)
    short = kind.upper() if len(kind) <= 3 else kind.replace("_", " ")
    name = GLU_WORDS.get(activation) if kind == "glu" else None
    return " ".join(part for part in (name or f"{short} {word}".strip(), str(config.get("d_ff", ""))) if part)


def describe(architecture: Mapping[str, Any]) -> str:
    """An architecture in one line: depth x width, mixers, feed-forward, number format."""
    parts = [
        f"{len(architecture['layers'])} × {architecture['d_model']}",
        mixers(architecture),
        feed_forwards(architecture),
        format_word(number_format(architecture)),
    ]
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """A span of time as a person says it.

    >>> duration(42), duration(185), duration(7300)
    ('42 s', '3 min 5 s', '2 h 1 min')
    """
    total = max(0, round(seconds))
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    if total < 86400:
        return f"{total // 3600} h {total % 3600 // 60} min"
    return f"{total // 86400} d {total % 86400 // 3600} h"


def elapsed_s(job: JobRecord, now: dt.datetime) -> float | None:
    """Seconds from start to end, or to now."""
    if job.started_at is None:
        return None
    return ((job.ended_at or now) - job.started_at).total_seconds()


def trains_finalists(job: JobRecord) -> bool:
    return job.state == "running" and bool(job.context.get("search_ended") and job.context.get("finalists"))


def is_over(job: JobRecord) -> bool:
    return job.state in FINAL_JOB_STATES


def is_hollow(trial: TrialRecord, key: str) -> bool:
    """The number is not fully trusted: predicted, noisy or contended."""
    return trial.kinds.get(key) == "predicted" or bool({"noisy", "contended"} & set(trial.flags))


def factor(value: float) -> str:
    """
    >>> factor(1.8345), factor(12.34)
    ('1.83×', '12.3×')
    """
    return f"{value:.3g}×" if math.isfinite(value) else "?"
