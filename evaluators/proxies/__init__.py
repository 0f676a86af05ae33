"""Training-free proxies: their list, and the calls that score and rank architectures with it.

To add one: a file beside the others, its line in `BUILT_IN`, a closed-form test, a line in the README.
Another package adds one by an entry point of `paretoformer.proxies` that names a `Proxy` class.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points

import numpy as np
from jaxtyping import Shaped

from space.architecture import Architecture
from space.errors import InvalidInputError, nearest

from ..passes import probe_size
from ..protocol import Measurement
from ..proxy import DEFAULT_PROBE, ProbeOptions, Proxy, measure_proxies, probe_digest, proxy_fingerprint
from ..ranking import mean_ranks
from .activation_distance import ActivationDistance
from .aspect import Aspect
from .attention_confidence import AttentionConfidence
from .attention_importance import AttentionImportance
from .az_expressivity import AzExpressivity
from .az_progressivity import AzProgressivity
from .az_trainability import AzTrainability
from .depth import Depth
from .dss import Dss
from .entropy_mad import EntropyMad
from .fisher import Fisher
from .grad_norm import GradNorm
from .grasp import Grasp
from .head_confidence import HeadConfidence
from .hidden_covariance import HiddenCovariance
from .jacob_cosine import JacobCosine
from .jacob_cov import JacobCov
from .macs_decode import MacsDecode
from .macs_prefill import MacsPrefill
from .meco import Meco
from .naswot import Naswot
from .ntk_cond import NtkCond
from .params_decoder import ParamsDecoder
from .params_total import ParamsTotal
from .quant_noise import QuantNoise
from .snip import Snip
from .state_size import StateSize
from .swap import Swap
from .synaptic_diversity import SynapticDiversity
from .synaptic_saliency import SynapticSaliency
from .synflow_log import SynflowLog
from .w_pca import WPca
from .width import Width
from .zico import ZiCo

BUILT_IN: tuple[Proxy, ...] = (
    ParamsTotal(),
    ParamsDecoder(),
    MacsPrefill(),
    MacsDecode(),
    StateSize(),
    Depth(),
    Width(),
    Aspect(),
    EntropyMad(),
    Naswot(),
    ActivationDistance(),
    Swap(),
    AttentionConfidence(),
    HeadConfidence(),
    HiddenCovariance(),
    Meco(),
    AzExpressivity(),
    AzProgressivity(),
    WPca(),
    QuantNoise(),
    GradNorm(),
    Snip(),
    Fisher(),
    SynapticDiversity(),
    SynapticSaliency(),
    AttentionImportance(),
    JacobCov(),
    JacobCosine(),
    SynflowLog(),
    Dss(),
    AzTrainability(),
    ZiCo(),
    NtkCond(),
    Grasp(),
)
"""By the group of passes they need, A to H."""


def with_plug_ins(built_in: tuple[Proxy, ...], points: Sequence[EntryPoint]) -> tuple[Proxy, ...]:
    """The built-in proxies, then those of entry points, by name.

    Raises:
        InvalidInputError: an entry point does not load, is no proxy class, or its id is taken.
    """
    members = {member.id: member for member in built_in}
    for point in sorted(points, key=lambda point: point.name):
        try:
            found = point.load()
        except Exception as error:
            raise InvalidInputError(
                f"entry point '{point.name}' of paretoformer.proxies cannot be loaded: {error}; repair or "
                "uninstall that package"
            ) from error
        if not (isinstance(found, type) and issubclass(found, Proxy)):
            raise InvalidInputError(
                f"entry point '{point.name}' of paretoformer.proxies is {found!r}; it must be a subclass of "
                "evaluators.proxies.Proxy"
            )
        own = found()
        if own.id in members:
            raise InvalidInputError(
                f"entry point '{point.name}' of paretoformer.proxies: the id '{own.id}' is taken; "
                "choose another"
            )
        members[own.id] = own
    return tuple(members.values())


PROXIES: tuple[Proxy, ...] = with_plug_ins(BUILT_IN, tuple(entry_points(group="paretoformer.proxies")))

__all__ = [
    "BUILT_IN",
    "DEFAULT_PROBE",
    "PROXIES",
    "ActivationDistance",
    "Aspect",
    "AttentionConfidence",
    "AttentionImportance",
    "AzExpressivity",
    "AzProgressivity",
    "AzTrainability",
    "Depth",
    "Dss",
    "EntropyMad",
    "Fisher",
    "GradNorm",
    "Grasp",
    "HeadConfidence",
    "HiddenCovariance",
    "JacobCosine",
    "JacobCov",
    "MacsDecode",
    "MacsPrefill",
    "Meco",
    "Naswot",
    "NtkCond",
    "ParamsDecoder",
    "ParamsTotal",
    "ProbeOptions",
    "Proxy",
    "QuantNoise",
    "Snip",
    "StateSize",
    "Swap",
    "SynapticDiversity",
    "SynapticSaliency",
    "SynflowLog",
    "WPca",
    "Width",
    "ZiCo",
    "combined_rank",
    "oriented",
    "probe_digest",
    "probe_size",
    "proxy",
    "proxy_fingerprint",
    "proxy_names",
    "score",
    "with_plug_ins",
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
    num_seeds: int | None = None,
    options: ProbeOptions = DEFAULT_PROBE,
) -> dict[str, Measurement]:
    """Name -> measurement (kind `computed`), all proxies on the same passes; nothing global changes.

    `inputs` and `targets` are a probe batch of the training part, best of `probe_size(tokens)` examples.
    `num_seeds` None: as many initialisations as each proxy asks for.
    """
    members = [proxy(name) for name in dict.fromkeys(names)]
    return measure_proxies(
        architecture, inputs, targets, members, seed=seed, num_seeds=num_seeds, options=options
    )


def combined_rank(scores: Sequence[Mapping[str, Measurement]]) -> list[float]:
    """Mean rank over the proxies in `scores`, 1 the best, in the order given.

    Numbers that are not finite rank last. A proxy an architecture does not support is left out of its mean.
    """
    if not scores:
        return []
    named = [member for member in PROXIES if any(member.id in own for own in scores)]
    columns = [[oriented(member, own.get(member.id)) for own in scores] for member in named]
    return mean_ranks(columns) if columns else mean_ranks([[None] * len(scores)])


def oriented(member: Proxy, measurement: Measurement | None) -> float | None:
    """Larger is better; NaN for a failed score, None for one there cannot be."""
    if measurement is None or measurement.status == "unsupported":
        return None
    if measurement.value is None:
        return float("nan")
    return measurement.value if member.direction == "max" else -measurement.value
