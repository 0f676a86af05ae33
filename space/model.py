"""Architecture -> module.

x = position(embedding(inputs))
x = block_l(x) for every layer l          (see `Block`)
logits = head(final_norm(x))
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn

from .architecture import Architecture, LayerConfig
from .choice import Surroundings
from .embedding import build_embedding, build_head
from .errors import InvalidInputError
from .roles import HasRoles, ParameterRole


class Block(nn.Module):
    """Mixer and feed-forward with their norms.

    pre, serial:     x <- x + mixer(n1 x);  x <- x + ffn(n2 x)
    pre, parallel:   x <- x + mixer(n1 x) + ffn(n2 x)
    post, serial:    x <- n1(x + mixer(x));  x <- n2(x + ffn(x))
    post, parallel:  x <- n1(x + mixer(x) + ffn(x));  there is no second norm
    """

    def __init__(self, layer: LayerConfig, surroundings: Surroundings) -> None:
        super().__init__()
        d = surroundings.d_model
        self.placement, self.residual = layer.placement, layer.residual
        self.mixer_norm = layer.norm.build(d)
        self.mixer = layer.mixer.build(surroundings)
        one_norm = num_norms(layer) == 1
        self.feed_forward_norm: nn.Module = nn.Identity() if one_norm else layer.norm.build(d)
        self.feed_forward = layer.feed_forward.build(surroundings)

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        match self.placement, self.residual:
            case "pre", "serial":
                x = x + self.mixer(self.mixer_norm(x), mask)
                x = x + self.feed_forward(self.feed_forward_norm(x))
            case "pre", _:
                mixed = self.mixer(self.mixer_norm(x), mask)
                x = x + mixed + self.feed_forward(self.feed_forward_norm(x))
            case _, "serial":
                x = self.mixer_norm(x + self.mixer(x, mask))
                x = self.feed_forward_norm(x + self.feed_forward(x))
            case _:
                x = self.mixer_norm(x + self.mixer(x, mask) + self.feed_forward(x))
        return x


class Model(nn.Module):
    """A built architecture, in float32; `space.number_formats` gives the form in its number formats."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        d = architecture.d_model
        surroundings = architecture.surroundings()
        self.context_length = architecture.tokens
        self.embedding = build_embedding(architecture.interface, d)
        self.position = architecture.position.build(surroundings)
        self.blocks = nn.ModuleList(Block(layer, surroundings) for layer in architecture.layers)
        self.final_norm = architecture.final_norm.build(d)
        self.head = build_head(
            architecture.head, self.embedding, d_model=d, outputs=architecture.interface.outputs
        )

    def forward(
        self, inputs: Num[Tensor, "batch ..."], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch ... outputs"]:
        """Logits: per token for a language head, else per input. `mask` is True at real tokens."""
        x = self.embedding(inputs)
        if not torch.onnx.is_in_onnx_export() and x.shape[1] > self.context_length:
            raise InvalidInputError(
                f"{x.shape[1]} tokens are more than the context length, {self.context_length}; cut the input"
            )
        x = self.position(x)
        for block in self.blocks:
            x = block(x, mask)
        logits: Tensor = self.head(self.final_norm(x), mask)
        return logits


def num_norms(layer: LayerConfig) -> int:
    """Norms of one block; see `Block`."""
    return 1 if layer.placement == "post" and layer.residual == "parallel" else 2


def build_model(architecture: Architecture, *, seed: int | None = None) -> Model:
    """A freshly initialised model on the CPU, in float32.

    With a seed the weights depend on it alone and torch's global generator is left as it was; without one
    they come from that generator.

    Raises:
        InvalidArchitectureError: no model of this description can be built.
    """
    if seed is None:
        return Model(architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Model(architecture)


def parameter_roles(model: Model) -> dict[str, ParameterRole]:
    """Role of every parameter, by its name in `model.named_parameters()`."""
    roles: dict[str, ParameterRole] = {}
    for prefix, module in model.named_modules():
        if not isinstance(module, HasRoles):
            continue
        layer = int(prefix.split(".")[1]) if prefix.startswith("blocks.") else None
        for name, role in module.parameter_roles().items():
            roles[f"{prefix}.{name}"] = replace(role, layer=layer)
    return roles
