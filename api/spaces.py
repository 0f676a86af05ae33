"""Search spaces as plain JSON, on the interface of each model kind's smallest built-in task."""

from collections.abc import Mapping
from typing import Any

from space.architecture import BytesInterface, ImageInterface, InterfaceConfig
from space.genes import Domains
from space.search_space import SearchSpace, load_preset, preset_names

EXAMPLES: Mapping[str, InterfaceConfig] = {
    "decoder": BytesInterface(vocab_size=256, context_length=128, outputs=256),
    "encoder": BytesInterface(vocab_size=256, context_length=128, outputs=2),
    "vision": ImageInterface(height=8, width=8, channels=1, patch_size=2, outputs=10),
}
"""A space has a size only for a task; these stand in where none is named."""


def preset_space(name: str, changes: Mapping[str, Any] | None = None) -> SearchSpace:
    """A preset with changed domains, on the example interface of its model kind."""
    space = load_preset(name).with_domains(changes or {})
    return space.for_interface(EXAMPLES[space.model])


def space_answer(space: SearchSpace) -> dict[str, Any]:
    """Name, domains and size."""
    size = space.size()
    return {
        "name": space.name,
        "description": space.description,
        "model": space.model,
        "size": str(size),
        "size_text": f"{size:,}" if size < 10**9 else f"{size:.2e}" if size < 10**300 else "over 1e300",
        "interface": None if space.interface is None else space.interface.model_dump(mode="json"),
        "domains": {key: list(space.domains.of(key)) for key in Domains.model_fields},
        "shared": list(space.shared),
    }


def space_summaries() -> list[dict[str, Any]]:
    """Every preset with its size, without the domains."""
    keys = ("name", "description", "model", "size", "size_text")
    answers = [space_answer(preset_space(name)) for name in preset_names()]
    return [{key: answer[key] for key in keys} for answer in answers]
