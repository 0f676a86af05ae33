"""The files of a folder that are Python code, and the weights that belong to it.

    model.py         the trained form in float32                model.safetensors
    deployed.py      what was evaluated, where that is another form: number formats applied,
                     norms and slices folded                    deployed.safetensors

Both stand alone: torch and safetensors are all they need.
"""

from pathlib import Path

from safetensors.torch import save_model
from torch import Tensor, nn

from ..architecture import Architecture
from ..model import Model, build_model
from ..number_formats import apply_number_formats
from .source import article, generate, packages_of, recorded

WEIGHTS = "model.safetensors"
CODE = "model.py"
DEPLOYED_WEIGHTS = "deployed.safetensors"
DEPLOYED = "deployed.py"


def model_source(architecture: Architecture) -> str:
    """`model.py` of an architecture; its number formats play no part.

    Raises:
        UnsupportedError: a choice has no code of its own; the message names it.
    """
    with recorded(packages_of(architecture)):
        model = build_model(architecture, seed=0)
    return generate(model.eval(), architecture, weights=WEIGHTS, title=_title(architecture, "float32"))


def write_deployed(
    model: nn.Module,
    architecture: Architecture,
    folder: Path,
    *,
    calibration: Tensor | None = None,
    weights: bool = True,
) -> None:
    """Writes `deployed.py`, the linear maps in the number formats of their layers, and its weights if wanted.

    Raises:
        UnsupportedError: a choice has no code of its own; the message names it.
    """
    with recorded(packages_of(architecture)):
        built = build_model(architecture, seed=0)
        built.load_state_dict(model.state_dict())
        running = apply_number_formats(built, architecture, calibration=calibration)
    assert isinstance(running, Model)
    formats = ", ".join(sorted(architecture.number_formats))
    title = _title(architecture, f"number formats: {formats}")
    text = generate(running, architecture, weights=DEPLOYED_WEIGHTS, title=title)
    (folder / DEPLOYED).write_text(text, encoding="utf-8")
    if weights:
        save_model(running, str(folder / DEPLOYED_WEIGHTS))


def has_deployed(architecture: Architecture) -> bool:
    """Whether what was evaluated is another form than the trained one."""
    return architecture.number_formats != {"fp32"}


def _title(architecture: Architecture, form: str) -> str:
    layers = [
        f"    {index:>3}  {layer.mixer.kind}, {layer.feed_forward.kind}, {layer.norm.kind}, "
        f"{layer.placement}, {layer.residual}, {layer.number_format}"
        for index, layer in enumerate(architecture.layers, start=1)
    ]
    return "\n".join(
        [
            f"{article(architecture.model)} found by architecture search; {form}.",
            "",
            f"    architecture {architecture.id}",
            f"    width {architecture.d_model}, position {architecture.position.kind}, "
            f"sharing {architecture.sharing.kind}",
            *layers,
            "",
            "Made for evaluation: gradients flow, but what only training or other architectures need is left",
            "out. `load()` reads the weights that lie beside this file. Needs torch and safetensors.",
        ]
    )
