"""One point of the space: an immutable architecture with a canonical JSON form and a stable id.

The id is the first 16 bytes of SHA-256 over the canonical JSON, as 32 hex characters. Two descriptions of the
same function that the rules of `canonicalise` know get the same id; everything in the JSON is hashed.

Part of a layer (pre placement, serial residual):

    x --+--> norm --> mixer --> (+) --+--> norm --> feed-forward --> (+) --> x
        |______________________/      |_______________________________/

Layers are always written out one by one. Under sharing, layers that share their weights are equal.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from .choice import Choice, FeedForwardChoice, Surroundings, off
from .errors import InvalidArchitectureError, nearest
from .feedforward import FeedForwardConfig
from .mixers import MIXERS, MixerConfig
from .norms import NormConfig
from .positions import NonePositionConfig, PositionConfig, RopeConfig
from .quantization import NumberFormat

Model = Literal["decoder", "encoder", "vision"]
Pooling = Literal["mean", "max", "last", "cls"]
CLASS_TOKEN: Pooling = "cls"


class BytesInterface(Choice):
    """Token ids [batch, tokens] in; `outputs` logits per token (language) or per sequence (classes)."""

    input: Literal["bytes"] = "bytes"
    vocab_size: int = Field(256, ge=2, le=1_000_000)
    context_length: int = Field(ge=1, le=1_048_576)
    outputs: int = Field(ge=1, le=1_000_000)

    @property
    def tokens(self) -> int:
        return self.context_length


class ValuesInterface(Choice):
    """Real-valued sequences [batch, tokens, channels] in."""

    input: Literal["values"] = "values"
    channels: int = Field(1, ge=1, le=65_536)
    context_length: int = Field(ge=1, le=1_048_576)
    outputs: int = Field(ge=1, le=1_000_000)

    @property
    def tokens(self) -> int:
        return self.context_length


class ImageInterface(Choice):
    """Images [batch, channels, height, width] in, cut into square patches: one token each."""

    input: Literal["image"] = "image"
    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)
    channels: int = Field(1, ge=1, le=1024)
    patch_size: int = Field(ge=1, le=512)
    outputs: int = Field(ge=1, le=1_000_000)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.height // self.patch_size, self.width // self.patch_size

    @property
    def tokens(self) -> int:
        rows, columns = self.grid
        return rows * columns


InterfaceConfig = Annotated[BytesInterface | ValuesInterface | ImageInterface, Field(discriminator="input")]


class LayerConfig(Choice):
    """One block: mixer and feed-forward with their norms."""

    mixer: MixerConfig
    feed_forward: FeedForwardConfig
    norm: NormConfig
    placement: Literal["pre", "post"] = "pre"
    residual: Literal["serial", "parallel", "macaron"] = "serial"
    number_format: NumberFormat = "fp32"

    @property
    def feed_forwards(self) -> tuple[FeedForwardChoice, ...]:
        """What is built: none, one, or the two halves of a Macaron layer, before and after the mixer."""
        if not self.feed_forward.is_present:
            return ()
        if self.residual == "macaron":
            return (self.feed_forward.halved(),) * 2
        return (self.feed_forward,)

    @property
    def num_norms(self) -> int:
        """One per branch; a parallel post-norm block has one, for its sum (see `model.Block`)."""
        if self.placement == "post" and self.residual == "parallel":
            return 1
        return 1 + len(self.feed_forwards)


class NoSharing(Choice):
    """Every layer has its own weights."""

    kind: Literal["none"] = "none"

    def owners(self, num_layers: int) -> tuple[int, ...]:
        """For every layer the first layer with its weights."""
        return tuple(range(num_layers))


class SharedLayers(Choice):
    """One block applied at every depth (Lan et al. 2019, arXiv:1909.11942, ALBERT)."""

    kind: Literal["all"] = "all"
    private_norm: bool = off(False, description="Norms stay each layer's own (WideNet).")

    def owners(self, num_layers: int) -> tuple[int, ...]:
        """For every layer the first layer with its weights."""
        return (0,) * num_layers


class GroupedLayers(Choice):
    """`groups` distinct blocks: repeat 1 1 2 2, cycle 1 2 1 2."""

    kind: Literal["groups"] = "groups"
    groups: int = Field(ge=1, le=256)
    order: Literal["repeat", "cycle"] = "repeat"
    private_norm: bool = off(False, description="Norms stay each layer's own (WideNet).")

    def owners(self, num_layers: int) -> tuple[int, ...]:
        """For every layer the first layer with its weights."""
        if self.order == "cycle":
            return tuple(index % self.groups for index in range(num_layers))
        group = [index * self.groups // num_layers for index in range(num_layers)]
        return tuple(group.index(g) for g in group)


SharingConfig = Annotated[NoSharing | SharedLayers | GroupedLayers, Field(discriminator="kind")]


class DenseProjection(Choice):
    """Every linear map of a layer is one matrix."""

    kind: Literal["dense"] = "dense"

    @property
    def rank_ratio(self) -> float:
        """Inner width over the smaller side; 1: no factors."""
        return 1.0


class LowRankProjection(Choice):
    """Every linear map of a layer is a product of two narrow ones where that is smaller."""

    kind: Literal["lowrank"] = "lowrank"
    rank_ratio: float = Field(gt=0, lt=1, description="Inner width over the smaller side of each matrix.")


ProjectionConfig = Annotated[DenseProjection | LowRankProjection, Field(discriminator="kind")]


class LanguageHead(Choice):
    """Logits of the next token at every position. `tied`: the weight is the embedding's."""

    kind: Literal["language"] = "language"
    tied: bool = False


class ClassificationHead(Choice):
    """One vector per input, then a linear map to the classes."""

    kind: Literal["classification"] = "classification"
    pooling: Pooling = off("mean", description="Over the real tokens; cls: a trained token before them.")


HeadConfig = Annotated[LanguageHead | ClassificationHead, Field(discriminator="kind")]


class Architecture(Choice):
    """An architecture. Use `parse_architecture` for outside text: it checks and canonicalises."""

    version: Literal[1] = 1
    model: Model
    interface: InterfaceConfig
    d_model: int = Field(ge=1, le=16_384)
    embedding_width: int = off(
        0,
        ge=0,
        le=16_384,
        description="Of the rows of a factorised table of token ids; 0: they have the model's width.",
    )
    position: PositionConfig
    layers: tuple[LayerConfig, ...] = Field(min_length=1, max_length=256)
    sharing: SharingConfig = NoSharing()
    projection: ProjectionConfig = DenseProjection()
    final_norm: NormConfig
    head: HeadConfig

    @property
    def is_causal(self) -> bool:
        return self.model == "decoder"

    @property
    def tokens(self) -> int:
        """Tokens of one full-length input."""
        return self.interface.tokens

    @property
    def class_tokens(self) -> int:
        """Trained tokens before those of the input, 0 or 1: layers run on `tokens` and these."""
        return int(isinstance(self.head, ClassificationHead) and self.head.pooling == CLASS_TOKEN)

    @cached_property
    def canonical_json(self) -> str:
        """Sorted keys, no spaces, defaults filled."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @cached_property
    def id(self) -> str:
        """32 hex characters; the identity for caching and duplicate detection."""
        return hashlib.sha256(self.canonical_json.encode()).digest()[:16].hex()

    @cached_property
    def training_id(self) -> str:
        """Id of the same architecture with every number format fp32: trainings are keyed by it."""
        return self.with_number_format("fp32").id

    @property
    def number_formats(self) -> frozenset[str]:
        return frozenset(layer.number_format for layer in self.layers)

    def with_number_format(self, number_format: NumberFormat) -> "Architecture":
        layers = tuple(layer.model_copy(update={"number_format": number_format}) for layer in self.layers)
        return Architecture(**{**self._fields(), "layers": layers})

    def surroundings(self) -> Surroundings:
        """What the choices of this architecture may know; a new one for every model."""
        return Surroundings(
            d_model=self.d_model,
            context_length=self.tokens + self.class_tokens,
            num_layers=len(self.layers),
            causal=self.is_causal,
            position=self.position,
            grid=grid_of(self.interface, self.class_tokens),
            rank_ratio=self.projection.rank_ratio,
        )

    @property
    def owners(self) -> tuple[int, ...]:
        """For every layer the first layer that has its weights."""
        return self.sharing.owners(len(self.layers))

    def _fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields}


def grid_of(interface: InterfaceConfig, class_tokens: int) -> tuple[int, int] | None:
    """Rows and columns of the tokens of an image; with a class token before them they are a sequence."""
    return interface.grid if isinstance(interface, ImageInterface) and not class_tokens else None


def canonicalise(architecture: Architecture) -> Architecture:
    """The same function in its one canonical description; idempotent.

    - every mixer and feed-forward in its own canonical form there (a window that covers the context is
      `softmax`, one expert is a dense feed-forward, ...);
    - a position choice that acts inside mixers, in a stack where no mixer reads it, becomes `none`;
    - a layer without feed-forward is serial;
    - a table of token ids with rows as wide as the model, or wider, has no factors;
    - sharing of one layer, or in as many groups as layers, becomes `none`; in one group `all`.
    """
    at = architecture.surroundings()
    layers = tuple(_canonical_layer(layer, at) for layer in architecture.layers)
    position = architecture.position
    if position.kind in IN_MIXERS and not any(position.kind in layer.mixer.positions for layer in layers):
        position = NonePositionConfig()
    changed = {
        "layers": layers,
        "position": position,
        "embedding_width": canonical_embedding_width(architecture.embedding_width, architecture.d_model),
        "sharing": canonical_sharing(architecture.sharing, len(layers)),
    }
    return Architecture(**{**architecture._fields(), **changed})


IN_MIXERS: frozenset[str] = frozenset().union(*(mixer.positions for mixer in MIXERS.values()))
"""Position kinds that act inside mixers; the others act on the embedded tokens."""


def _canonical_layer(layer: LayerConfig, at: Surroundings) -> LayerConfig:
    mixer, feed_forward = layer.mixer.canonical(at), layer.feed_forward.canonical(at)
    residual = layer.residual if feed_forward.is_present else "serial"
    if (mixer, feed_forward, residual) == (layer.mixer, layer.feed_forward, layer.residual):
        return layer
    return layer.model_copy(update={"mixer": mixer, "feed_forward": feed_forward, "residual": residual})


def canonical_embedding_width(width: int, d_model: int) -> int:
    """0 where the factors of the table would narrow nothing."""
    return width if width < d_model else 0


def canonical_sharing(
    sharing: NoSharing | SharedLayers | GroupedLayers, depth: int
) -> NoSharing | SharedLayers | GroupedLayers:
    """The one description of a sharing of so many layers."""
    groups = len(set(sharing.owners(depth)))
    if groups == depth:
        return NoSharing()
    if isinstance(sharing, GroupedLayers) and groups == 1:
        return SharedLayers(private_norm=sharing.private_norm)
    return sharing


def check_architecture(architecture: Architecture) -> None:
    """Raises InvalidArchitectureError when no model of this description can be built (`choices.md` 14)."""
    interface = architecture.interface
    if isinstance(interface, ImageInterface) and (
        interface.height % interface.patch_size or interface.width % interface.patch_size
    ):
        raise InvalidArchitectureError(
            f"patch_size={interface.patch_size} does not divide the image "
            f"{interface.height}x{interface.width}; choose a divisor of both"
        )
    expected = {"decoder": ("bytes", "language"), "vision": ("image", "classification")}
    if architecture.model in expected:
        want_input, want_head = expected[architecture.model]
        if interface.input != want_input or architecture.head.kind != want_head:
            raise InvalidArchitectureError(
                f"model '{architecture.model}' takes input '{want_input}' and head '{want_head}', "
                f"not '{interface.input}' and '{architecture.head.kind}'"
            )
    if architecture.embedding_width and not isinstance(interface, BytesInterface):
        raise InvalidArchitectureError(
            f"embedding_width={architecture.embedding_width} factorises a table of token ids, "
            f"and input '{interface.input}' has none; leave it out"
        )
    head = architecture.head
    if isinstance(head, LanguageHead) and head.tied and not _has_one_vector_per_output(interface):
        raise InvalidArchitectureError(
            f"a tied head gives one logit per token id, not outputs={interface.outputs}; "
            "set outputs to vocab_size or tied to false"
        )
    if architecture.is_causal and not architecture.final_norm.causal:
        raise InvalidArchitectureError(f"final norm '{architecture.final_norm.kind}' has no causal form")
    _check_sharing(architecture)
    at = architecture.surroundings()
    for index, layer in enumerate(architecture.layers):
        mixer = layer.mixer
        if not (mixer.causal if architecture.is_causal else mixer.bidirectional):
            way = "causal" if architecture.is_causal else "bidirectional"
            raise InvalidArchitectureError(f"layer {index}: mixer '{mixer.kind}' has no {way} form")
        if architecture.class_tokens and isinstance(interface, ImageInterface) and mixer.reads_grid:
            raise InvalidArchitectureError(
                f"layer {index}: mixer '{mixer.kind}' reads the grid of an image, and pooling 'cls' puts a "
                "token beside it; choose pooling mean, max or last"
            )
        if architecture.is_causal and not layer.norm.causal:
            raise InvalidArchitectureError(f"layer {index}: norm '{layer.norm.kind}' has no causal form")
        if not (layer.feed_forward.is_present or mixer.own_nonlinearity):
            raise InvalidArchitectureError(
                f"layer {index}: mixer '{mixer.kind}' has no nonlinearity of its own and needs a feed-forward"
            )
        try:
            mixer.check(at)
            if isinstance(at.position, RopeConfig) and "rope" in mixer.positions:
                heads, own_width = getattr(mixer, "num_heads", 1), getattr(mixer, "head_width", 0)
                at.position.check_head_width(at, own_width or at.d_model // heads)
            for feed_forward in layer.feed_forwards:
                feed_forward.check(at)
        except InvalidArchitectureError as error:
            raise InvalidArchitectureError(f"layer {index}: {error.message}", hint=error.hint) from error
        if architecture.position.kind == "alibi" and "alibi" in mixer.positions:
            heads = getattr(mixer, "num_heads", 1)
            if heads < 4:
                raise InvalidArchitectureError(
                    f"layer {index}: alibi needs at least 4 heads, got {heads}; "
                    "one head's slope of 1/256 is no position signal"
                )
    _check_order(architecture)


def _has_one_vector_per_output(interface: InterfaceConfig) -> bool:
    return isinstance(interface, BytesInterface) and interface.vocab_size == interface.outputs


def _check_sharing(architecture: Architecture) -> None:
    for index, owner in enumerate(architecture.owners):
        if architecture.layers[index] != architecture.layers[owner]:
            raise InvalidArchitectureError(
                f"layer {index} shares the weights of layer {owner} but differs from it; make them equal"
            )


def _check_order(architecture: Architecture) -> None:
    """V7: a bidirectional stack of order-blind mixers without positions cannot see order."""
    if architecture.is_causal or architecture.position.kind != "none":
        return
    if not any(layer.mixer.sees_order for layer in architecture.layers):
        raise InvalidArchitectureError(
            "position 'none' with order-blind mixers makes the model blind to order; "
            "choose a position, or one layer of gated_conv or pool"
        )


def parse_architecture(data: str | bytes | Mapping[str, Any]) -> Architecture:
    """Outside text or mapping -> checked, canonical architecture.

    Raises:
        InvalidArchitectureError: not JSON, unknown or missing field, or a point no model can be built from.
    """
    try:
        if isinstance(data, (str, bytes)):
            architecture = Architecture.model_validate_json(data)
        else:
            architecture = Architecture.model_validate(dict(data))
    except ValidationError as error:
        raise InvalidArchitectureError(_first_problem(error)) from error
    check_architecture(architecture)
    canonical = canonicalise(architecture)
    check_architecture(canonical)  # a position that nothing reads is gone now
    return canonical


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    path = ".".join(str(part) for part in problem["loc"]) or "architecture"
    message = problem["msg"][0].lower() + problem["msg"][1:]
    if problem["type"] == "union_tag_invalid":
        context = problem.get("ctx", {})
        tags = [tag.strip(" '") for tag in str(context.get("expected_tags", "")).split(",")]
        return f"{path}: unknown kind '{context.get('tag')}'; {nearest(str(context.get('tag')), tags)}"
    if problem["type"] == "extra_forbidden":
        return f"{path}: unknown field"
    return f"{path}: {message}"
