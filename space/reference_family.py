"""The reference family: the ordinary transformers a good engineer would write down without a search.

    GPT-like    LayerNorm, GELU feed-forward of 4 d, RoPE                (images: ViT-like, learned positions)
    LLaMA-like  RMSNorm, SwiGLU of 8/3 d (the parameters of 4 d), RoPE   (images: learned positions)

Softmax with as many key/value heads as heads, pre-norm, equal layers; sizes along the diagonal from the
smallest to the largest depth and width of the space. References need not lie in the space.

Source: architecture.md 3.4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .architecture import Architecture, parse_architecture
from .errors import InvalidInputError
from .feedforward import GluConfig
from .layer_options import hidden_width, legal_head_counts
from .quantization import NumberFormat
from .search_space import SearchSpace

FORMATS: tuple[NumberFormat, ...] = ("fp32", "int8_dynamic")
MAX_HEAD_WIDTH = 64
"""Four heads, and more where they would grow wider than this."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One member of the family, for example `llama-like 4x64 int8_dynamic`."""

    name: str
    family: str
    number_format: NumberFormat
    architecture: Architecture


def reference_family(
    space: SearchSpace, sizes: int, *, formats: Sequence[NumberFormat] = FORMATS
) -> list[Reference]:
    """Two families x `sizes` sizes x number formats, smallest first; fewer sizes in a space without so many.

    `formats`: those that are real on the job's runtime. All formats of one size share their training.
    """
    interface = space.interface
    if interface is None:
        raise InvalidInputError(
            f"space '{space.name}' has no interface yet; call for_interface with the task's"
        )
    families = ("vit-like", "llama-like") if space.model == "vision" else ("gpt-like", "llama-like")
    references = []
    for depth, d_model in diagonal(space.domains.num_layers, space.domains.d_model, sizes):
        for family in families:
            trained = _reference(space, family, depth, d_model)
            for number_format in formats:
                name = f"{family} {depth}x{d_model} {number_format}"
                architecture = trained.with_number_format(number_format)
                references.append(Reference(name, family, number_format, architecture))
    return references


def diagonal(depths: Sequence[int], widths: Sequence[int], sizes: int) -> list[tuple[int, int]]:
    """`sizes` pairs (depth, width) that grow together, the smallest and the largest of both included.

    >>> diagonal([1, 2, 3, 4], [32, 64, 96, 128], 3)
    [(1, 32), (3, 96), (4, 128)]
    """
    ordered_depths, ordered_widths = sorted(depths), sorted(widths)
    steps = [index / (sizes - 1) for index in range(sizes)] if sizes > 1 else [0.5]
    pairs = [(_at(ordered_depths, step), _at(ordered_widths, step)) for step in steps]
    return list(dict.fromkeys(pairs))


def _at(ordered: Sequence[int], fraction: float) -> int:
    return ordered[int(fraction * (len(ordered) - 1) + 0.5)]


def _reference(space: SearchSpace, family: str, depth: int, d_model: int) -> Architecture:
    """In fp32, at the task's own patch size."""
    is_llama = family == "llama-like"
    norm = {"kind": "rmsnorm" if is_llama else "layernorm"}
    feed_forward: dict[str, Any] = {"kind": "mlp", "activation": "gelu", "d_ff": 4 * d_model}
    if is_llama:
        feed_forward = {
            "kind": "glu",
            "activation": "silu",
            "d_ff": hidden_width(GluConfig.width_factor, 4.0, d_model),
        }
    heads = _heads(d_model)
    layer = {
        "mixer": {"kind": "softmax", "num_heads": heads, "num_kv_heads": heads},
        "feed_forward": feed_forward,
        "norm": norm,
    }
    return parse_architecture(
        {
            "model": space.model,
            "interface": space.interface,
            "d_model": d_model,
            "position": {"kind": "learned" if space.model == "vision" else "rope"},
            "layers": [layer] * depth,
            "final_norm": norm,
            "head": space.head(),
        }
    )


def _heads(d_model: int) -> int:
    counts = legal_head_counts(d_model)
    wanted = max(4, d_model // MAX_HEAD_WIDTH)
    return min(counts, key=lambda count: (abs(count - wanted), count))
