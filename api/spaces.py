"""Search spaces as plain JSON, on the interface of each model kind's smallest built-in task."""

import functools
import inspect
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from space.architecture import BytesInterface, ImageInterface, InterfaceConfig
from space.batch_costs import CostTable
from space.feedforward import FEED_FORWARDS
from space.mixers import MIXERS
from space.norms import NORMS
from space.positions import POSITIONS
from space.sampling import sample
from space.search_space import SearchSpace, load_preset, preset_names

EXAMPLES: Mapping[str, InterfaceConfig] = {
    "decoder": BytesInterface(vocab_size=256, context_length=128, outputs=256),
    "encoder": BytesInterface(vocab_size=256, context_length=128, outputs=2),
    "vision": ImageInterface(height=8, width=8, channels=1, patch_size=2, outputs=10),
}
"""A space has a size only for a task; these stand in where none is named."""
SIZES = Path(__file__).parent / "preset_sizes.json"


def preset_space(name: str, changes: Mapping[str, Any] | None = None) -> SearchSpace:
    """A preset with changed domains, on the example interface of its model kind."""
    space = load_preset(name).with_domains(changes or {})
    return space.for_interface(EXAMPLES[space.model])


def space_answer(space: SearchSpace) -> dict[str, Any]:
    """Name, genes with their domains, rules and size."""
    size = space.size()
    return {
        "name": space.name,
        "description": space.description,
        "source": space.source,
        "model": space.model,
        "size": str(size),
        "size_text": size_text(size),
        "interface": None if space.interface is None else space.interface.model_dump(mode="json"),
        "domains": {key: list(space.domains.of(key)) for key in read_genes(space)},
        "shared": [key for key in space.shared if key in space.read_layer_genes],
        "rules": [rule.as_written() for rule in space.rules],
    }


def read_genes(space: SearchSpace) -> list[str]:
    """The genes that something in the space reads: of the model, then of its layers."""
    model = [gene.key for gene in space.genes() if gene.layer is None and gene.key not in space.shared]
    return [*model, *space.read_layer_genes]


def cost_ranges(space: SearchSpace, count: int = 300, seed: int = 0) -> dict[str, dict[str, int]]:
    """Least, middle and largest closed-form costs of architectures drawn as the search draws them."""
    rng = Random(seed)
    columns = CostTable().costs([sample(space, rng) for _ in range(count)])
    keys = ("params", "macs", "weights_bytes", "memory_bytes")
    return {
        key: {"least": int(min(c)), "median": int(sorted(c)[count // 2]), "largest": int(max(c))}
        for key, c in ((key, columns[key]) for key in keys)
    }


def space_summaries() -> list[dict[str, Any]]:
    """Every preset with its size, without the domains."""
    sizes = recorded_sizes()
    return [
        {
            "name": name,
            "description": space.description,
            "model": space.model,
            "size": str(sizes[name]),
            "size_text": size_text(sizes[name]),
        }
        for name in preset_names()
        for space in [load_preset(name)]
    ]


@functools.cache
def recorded_sizes() -> Mapping[str, int]:
    """Sizes of the presets by name. Counting them all takes ten seconds, so they were counted beforehand;
    `make docs` does it again, and a test compares."""
    return {name: int(size) for name, size in json.loads(SIZES.read_text(encoding="utf-8")).items()}


def size_text(size: int) -> str:
    return f"{size:,}" if size < 10**9 else f"about 10^{math.log10(size):.1f}"


def choice_answers() -> list[dict[str, Any]]:
    """Every choice that architectures can be made of, those of installed packages too."""
    families: dict[str, Mapping[str, Any]] = {
        "mixer": MIXERS, "feed_forward": FEED_FORWARDS, "norm": NORMS, "position": POSITIONS,
    }  # fmt: skip
    return [_choice(family, kind, config) for family, of in families.items() for kind, config in of.items()]


def _choice(family: str, kind: str, config: Any) -> dict[str, Any]:
    module = sys.modules[config.__module__]
    genes = {gene.name: gene.help for gene in getattr(config, "genes", {}).values()}
    facts = ("causal", "bidirectional", "decodable", "fixed_length", "padding", "order_aware")
    return {
        "family": family,
        "kind": kind,
        "about": inspect.cleandoc(module.__doc__ or ""),
        "fields": {
            name: field.description or "" for name, field in config.model_fields.items() if name != "kind"
        },
        "genes": genes,
        "facts": {name: getattr(config, name) for name in facts if hasattr(config, name)},
        "package": config.__module__.partition(".")[0],
    }
