"""What the Fourier and the cosine mixer share: config, matrices over tokens and channels, one length only.

    layer form:  y = T_n x T_d^T                                      no parameters
    head form:   y = concat over heads (T_n (x W_v) T_h^T) W_o        h = d_model / H

T_k is the orthonormal transform of k places. A file for ONNX Runtime has T_n at the full context length as a
constant and computes it at any other length.
"""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from ..choice import LinearMap, Mixer, MixerChoice, Padding, Surroundings
from ..errors import InvalidArchitectureError, InvalidInputError
from ..gene import HEAD_WIDTH, LayerGene
from ..projection import read, write

MATRIX_TOKENS = 512
"""A transform over more tokens than this is not kept as a constant."""

FORM = LayerGene(
    "transform_form",
    ("layer", "head"),
    "A fixed transform of the layer's input, or of heads of values between two linear maps.",
    values=("layer", "head"),
)


class TransformChoice(MixerChoice):
    """Sees all tokens; every one of a batch must be real, since zeros change the result through n."""

    causal: ClassVar[bool] = False
    bidirectional: ClassVar[bool] = True
    decodable: ClassVar[bool] = False
    padding: ClassVar[Padding] = "packed"
    positions: ClassVar[frozenset[str]] = frozenset()
    order_aware: ClassVar[bool] = True
    direction_aware: ClassVar[bool] = True
    has_probabilities: ClassVar[bool] = False
    genes: ClassVar[Mapping[str, LayerGene]] = {"form": FORM, "num_heads": HEAD_WIDTH}

    form: Literal["layer", "head"] = Field("layer", description="layer: of the input; head: of W_v, W_o.")
    num_heads: int = Field(1, ge=1, le=256, description="Heads of the head form; divides the model width.")

    def canonical(self, at: Surroundings) -> MixerChoice:
        """The layer form has no heads."""
        return self if self.form == "head" else self.model_copy(update={"num_heads": 1})

    def check(self, at: Surroundings) -> None:
        if at.d_model % self.num_heads:
            raise InvalidArchitectureError(
                f"{self.kind}: num_heads={self.num_heads} does not divide d_model={at.d_model}; "
                "choose a divisor"
            )

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        d = at.d_model
        return (LinearMap(d, (d,)), LinearMap(d, (d,))) if self.form == "head" else ()

    def state_size(self, at: Surroundings, tokens: int) -> int:
        """None: there is no decoding."""
        return 0

    def transform_width(self, at: Surroundings) -> int:
        """Channels that are transformed together."""
        return at.d_model if self.form == "layer" else at.d_model // self.num_heads

    def computed_numbers(self, at: Surroundings, tokens: int) -> int:
        """Of the matrix over tokens where it is no constant."""
        return 0 if tokens == token_places(at) else tokens**2


class Transform(Mixer):
    """Value map, transform, output map. Computes in float32 at least."""

    def __init__(self, config: TransformChoice, at: Surroundings) -> None:
        super().__init__()
        d, has_maps = at.d_model, config.form == "head"
        self.kind, self.width = config.kind, config.transform_width(at)
        self.value = read(at, d, "mixer.in") if has_maps else nn.Identity()
        self.out = write(at, d, "mixer.out") if has_maps else nn.Identity()

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        refuse_padding(self.kind, mask)
        v = self.value(x)
        heads = self._heads(v.to(torch.promote_types(v.dtype, torch.float32)))
        y: Tensor = self.out(self.transformed(heads).flatten(2).to(v.dtype))
        return y

    def transformed(
        self, v: Float[Tensor, "batch tokens heads width"]
    ) -> Float[Tensor, "batch tokens heads width"]:
        """Over the tokens and the channels of every head."""
        raise NotImplementedError

    def _heads(self, v: Float[Tensor, "batch tokens d_model"]) -> Float[Tensor, "batch tokens heads width"]:
        # not unflatten: behind it the exporter takes the traced number of tokens for a constant
        return v.reshape(v.shape[0], v.shape[1], -1, self.width)


def refuse_padding(kind: str, mask: Bool[Tensor, "batch tokens"] | None) -> None:
    """Raises InvalidInputError where a token is not real; an exported graph has no mask."""
    if mask is None or torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling() or bool(mask.all()):
        return
    raise InvalidInputError(
        f"{kind}: {int((~mask).sum())} tokens of the batch are padding, 0 may be; "
        "make batches of one length or choose another mixer"
    )


class TransformMatrix(nn.Module):
    """The matrix of a transform for as many places as an axis has; constant for the number given here.

    0: computed in every pass. The constant stays float32 when the model's type changes: layers share it, and
    a widened one would have float32's error.
    """

    table: Tensor

    def __init__(self, places: int) -> None:
        super().__init__()
        self.register_buffer("table", self.made(places).float(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "TransformMatrix":
        self.table = self.table.to(fn(self.table).device)
        return self

    @staticmethod
    def made(places: int) -> Float[Tensor, "places places"]:
        """The definition, in float64."""
        raise NotImplementedError

    @staticmethod
    def exported(length: Int[Tensor, ""], table: Tensor) -> Tensor:
        """For a graph that chooses at run time: the table, or computed where it has another length."""
        raise NotImplementedError

    def over_tokens(self, x: Float[Tensor, "batch tokens *axes"]) -> Float[Tensor, "tokens tokens"]:
        """In the type of x."""
        if torch.onnx.is_in_onnx_export():
            # the exporter folds a branch on a size it saw while tracing; it cannot fold one on a maximum
            return self.exported(torch.arange(x.shape[1]).max() + 1, self.table)
        return self._of(x.shape[1], x)

    def over_channels(self, x: Float[Tensor, "*axes width"]) -> Float[Tensor, "width width"]:
        """In the type of x; of the width that the module was made for."""
        return self.table if torch.onnx.is_in_onnx_export() else self._of(x.shape[-1], x)

    def _of(self, places: int, like: Tensor) -> Tensor:
        is_float = like.dtype == torch.float32
        if is_float and not torch.compiler.is_compiling() and places == len(self.table):
            return self.table
        return self.made(places).to(like)


def token_places(at: Surroundings) -> int:
    """For how many tokens a matrix is a constant."""
    return at.context_length if at.context_length <= MATRIX_TOKENS else 0


M = TypeVar("M", bound=TransformMatrix)


def shared_matrix(at: Surroundings, kind: type[M], places: int, axis: Literal["tokens", "channels"]) -> M:
    """The one matrix of this kind, size and axis that all layers of a model hold.

    Tokens and channels have one each even where they are equally many: an exported graph chooses the former
    at run time, and would take the latter for the same constant.
    """
    key = f"{kind.__name__} of {places} {axis}"
    if key not in at.shared:
        at.shared[key] = kind(places)
    found = at.shared[key]
    assert isinstance(found, kind)
    return found


def angles(numerators: Tensor, period: int) -> Float[Tensor, "rows columns"]:
    """2 pi a / period in float64, from whole numbers that are first brought below the period."""
    return (numerators % period).double() * (2.0 * math.pi / max(1, period))
