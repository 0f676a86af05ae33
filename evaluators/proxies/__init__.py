"""Training-free proxies: the closed list, and the calls that score and rank architectures with it.

To add one: a file beside the others, its instance in `PROXIES`, a closed-form test, a line in the README.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Shaped

from space.architecture import Architecture
from space.errors import InvalidInputError, nearest

from ..passes import probe_size
from ..protocol import Measurement
from ..proxy import Proxy, measure_proxies, probe_digest, proxy_fingerprint
from ..ranking import mean_ranks
from .synaptic_diversity import SynapticDiversity
from .w_pca import WPca
from .zico import ZiCo

PROXIES: tuple[Proxy, ...] = (SynapticDiversity(), WPca(), ZiCo())

__all__ = [
    "PROXIES",
    "Proxy",
    "SynapticDiversity",
    "WPca",
    "ZiCo",
    "combined_rank",
    "probe_digest",
    "probe_size",
    "proxy",
    "proxy_fingerprint",
    "proxy_names",
    "score",
]


def proxy_names() -> tuple[str, ...]:
    """Every proxy's id, sorted."""
    return tuple(sorted(member.id for member in PROXIES))


def proxy(name: str) -> Proxy:
    """The proxy of this id.

    Raises:
        InvalidInputError: there is none; the message has the nearest name.
    """
    for member in PROXIES:
        if member.id == name:
            return member
    raise InvalidInputError(f"unknown proxy '{name}'; {nearest(name, proxy_names())}")


def score(
    architecture: Architecture,
    inputs: Shaped[np.ndarray, "examples ..."],
    targets: Shaped[np.ndarray, "labels ..."],
    names: Sequence[str],
    *,
    seed: int,
    num_seeds: int = 1,
) -> dict[str, Measurement]:
    """Name -> measurement (kind `computed`), all proxies on the same passes; nothing global changes.

    `inputs` and `targets` are a probe batch of the training part, best of `probe_size(tokens)` examples.
    """
    members = [proxy(name) for name in dict.fromkeys(names)]
    return measure_proxies(architecture, inputs, targets, members, seed=seed, num_seeds=num_seeds)


def combined_rank(scores: Sequence[Mapping[str, Measurement]]) -> list[float]:
    """Mean rank over the proxies in `scores`, 1 the best, in the order given.

    Numbers that are not finite rank last. A proxy an architecture does not support is left out of its mean.
    """
    if not scores:
        return []
    named = [member for member in PROXIES if any(member.id in own for own in scores)]
    columns = [[_oriented(member, own.get(member.id)) for own in scores] for member in named]
    return mean_ranks(columns) if columns else mean_ranks([[None] * len(scores)])


def _oriented(member: Proxy, measurement: Measurement | None) -> float | None:
    """Larger is better; NaN for a failed score, None for one there cannot be."""
    if measurement is None or measurement.status == "unsupported":
        return None
    if measurement.value is None:
        return float("nan")
    return measurement.value if member.direction == "max" else -measurement.value
