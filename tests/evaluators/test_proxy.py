"""The harness: what becomes of a proxy's raw number."""

import math
import statistics
from typing import ClassVar

import numpy as np
import pytest
from torch.linalg import LinAlgError  # type: ignore[attr-defined]  # missing from torch's __all__

from evaluators.passes import Need, Passes
from evaluators.protocol import Measurement
from evaluators.proxies import WPca, ZiCo
from evaluators.proxy import (
    Proxy,
    Score,
    initialisation_seed,
    measure_proxies,
    model_passes,
    probe_digest,
    proxy_fingerprint,
)
from space.architecture import Architecture, parse_architecture
from space.errors import InvalidInputError, UnsupportedError
from space.model import build_model

ARCHITECTURE = parse_architecture(
    {
        "model": "encoder",
        "interface": {"input": "values", "channels": 2, "context_length": 12, "outputs": 3},
        "d_model": 8,
        "position": {"kind": "rope"},
        "layers": [
            {
                "mixer": {"kind": "softmax", "num_heads": 2, "num_kv_heads": 2},
                "feed_forward": {"kind": "mlp", "activation": "gelu", "d_ff": 16},
                "norm": {"kind": "layernorm"},
            }
        ],
        "final_norm": {"kind": "layernorm"},
        "head": {"kind": "classification"},
    }
)
INPUTS = np.random.default_rng(0).standard_normal((16, 12, 2)).astype(np.float32)
TARGETS = np.arange(16) % 3


class Fixed(Proxy):
    """Returns or raises what it is given."""

    id = "fixed"
    version = 1
    direction = "min"
    needs: ClassVar[frozenset[Need]] = frozenset()
    summary = "a number from outside"

    def __init__(self, outcome: float | Exception) -> None:
        self.outcome = outcome

    def score(self, passes: Passes) -> Score:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return Score(self.outcome, {"beside": 2 * self.outcome})


def measured(member: Proxy, *, seed: int = 0, num_seeds: int = 1) -> Measurement:
    return measure_proxies(ARCHITECTURE, INPUTS, TARGETS, [member], seed=seed, num_seeds=num_seeds)[member.id]


def test_a_number_is_kept_with_its_conditions() -> None:
    own = measured(Fixed(3.0))
    assert (own.value, own.status, own.kind, own.spread) == (3.0, "ok", "computed", None)
    assert own.detail["beside"] == 6.0
    assert own.detail["direction"] == "min"


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (math.nan, "nan"),
        (-math.inf, "overflow"),
        (UnsupportedError("nothing to read"), "unsupported"),
        (LinAlgError("did not converge"), "nan"),
    ],
)
def test_a_failure_has_a_status_and_a_reason_and_no_value(outcome: float | Exception, status: str) -> None:
    own = measured(Fixed(outcome))
    assert (own.value, own.status) == (None, status)
    assert own.detail["reason"]


def test_a_mistake_in_a_proxy_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        measured(Fixed(ZeroDivisionError()))


def test_several_seeds_give_their_mean_and_its_interval() -> None:
    own = measured(ZiCo(), seed=5, num_seeds=3)
    singles = [zico_of(ARCHITECTURE, initialisation_seed(ARCHITECTURE, 5, index)) for index in range(3)]
    assert own.repeats == 3
    assert own.value == pytest.approx(statistics.fmean(singles))
    assert own.spread == pytest.approx(4.303 * statistics.stdev(singles) / math.sqrt(3))


def zico_of(architecture: Architecture, seed: int) -> float:
    """ZiCo of one initialisation, without the harness."""
    return ZiCo().score(model_passes(build_model(architecture, seed=seed), INPUTS, TARGETS, ZiCo.needs)).value


@pytest.mark.parametrize("num_seeds", [0, 11])
def test_an_impossible_number_of_seeds_is_refused(num_seeds: int) -> None:
    with pytest.raises(InvalidInputError, match=f"num_seeds={num_seeds} is outside 1 to 10"):
        measured(WPca(), num_seeds=num_seeds)


def test_seeds_depend_on_everything_but_the_number_format() -> None:
    other = parse_architecture({**ARCHITECTURE.model_dump(mode="json"), "d_model": 16})
    seeds = {
        initialisation_seed(*arguments)
        for arguments in ((ARCHITECTURE, 0, 0), (ARCHITECTURE, 1, 0), (ARCHITECTURE, 0, 1), (other, 0, 0))
    }
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert initialisation_seed(ARCHITECTURE.with_number_format("int8_dynamic"), 0, 0) in seeds


def test_the_fingerprint_knows_proxy_probe_and_seeds() -> None:
    digest = probe_digest(INPUTS, TARGETS)
    prints = {
        proxy_fingerprint(WPca(), digest=digest),
        proxy_fingerprint(ZiCo(), digest=digest),
        proxy_fingerprint(WPca(), digest=probe_digest(INPUTS[:15], TARGETS[:15])),
        proxy_fingerprint(WPca(), digest=digest, num_seeds=3),
    }
    assert len(prints) == 4
    assert proxy_fingerprint(WPca(), digest=probe_digest(INPUTS.copy(), TARGETS.copy())) in prints


def test_the_digest_sees_shapes_and_types() -> None:
    assert len({probe_digest(INPUTS, TARGETS), probe_digest(INPUTS.reshape(16, 2, 12), TARGETS)}) == 2
