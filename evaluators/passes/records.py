"""What the shared passes over one freshly initialised model leave for every proxy to read."""

import math
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from space.architecture import Architecture

Need = Literal[
    "hidden", "signs", "probabilities", "reads", "features",
    "gradients", "activation_gradients", "embedding_gradients", "example_gradients", "curvature",
    "isometry", "flow", "positive", "noise",
]  # fmt: skip
"""What a proxy reads: fields of `Passes`, which say what it is. `curvature` stands in the matrices."""

Group = Literal["A", "B", "C", "D", "E", "F", "H"]
GROUPS: dict[Need, Group] = {
    "hidden": "B",
    "signs": "B",
    "probabilities": "B",
    "reads": "B",
    "features": "B",
    "noise": "B",
    "gradients": "C",
    "activation_gradients": "C",
    "embedding_gradients": "C",
    "flow": "D",
    "positive": "D",
    "isometry": "E",
    "example_gradients": "F",
    "curvature": "H",
}
"""A: no pass. B: forward. C: backward of the loss. D: absolute weights. E: one vector-Jacobian product per
block. F: gradients of parts of the batch. H: a Hessian-vector product."""

Loss = Literal["task", "projection", "sum"]
"""task: cross-entropy. projection: a seeded random one of the last hidden state, without labels. sum: of the
last hidden state, where no norm stands before it."""

ProbeInput = Literal["real", "uniform_tokens", "gaussian_embedding"]
"""real: the probe batch. uniform_tokens: random ids. gaussian_embedding: N(0, 1) for embedded tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """One weight matrix (outputs, inputs) of a mixer or feed-forward. Fused weights come as their parts."""

    name: str
    role: str
    layer: int | None
    value: Float[Tensor, "outputs inputs"]
    gradient: Float[Tensor, "outputs inputs"] | None
    """Of the mean loss over all micro-batches; None when no backward ran."""
    gradient_mean_abs: Float[Tensor, "outputs inputs"] | None = None
    gradient_std: Float[Tensor, "outputs inputs"] | None = None
    curvature: Float[Tensor, "outputs inputs"] | None = None
    """H g, the loss's Hessian over all matrices times their gradient."""


@dataclass(frozen=True, slots=True, eq=False)
class Hidden:
    """Activations inside one feed-forward, after its nonlinearity: a row per token.

    A mixture of experts has a row per token and expert that it went through.
    """

    number: int
    """Which feed-forward, counted through the depth from 0; a layer may have none or two."""
    rows: Float[Tensor, "rows units"]
    d_ff: int
    """Width of the feed-forward; more than `rows` has columns when units were sampled."""


@dataclass(frozen=True, slots=True, eq=False)
class Signs:
    """Pre-activations at one nonlinearity of a feed-forward whose tokens stay in their order."""

    number: int
    """Which feed-forward, as in `Hidden`."""
    positive: Bool[Tensor, "examples bits"]
    """Whether it is above 0, for every token and unit."""
    mean: Float[Tensor, "examples units"]
    """Over the tokens."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """Attention probabilities at one place of a layer, reduced as `attention_confidence` says."""

    layer: int
    largest_key: float
    """Largest over the keys, mean over batch, heads and queries."""
    largest_head: float
    """Largest over the heads, mean over batch, queries and keys."""


@dataclass(frozen=True, slots=True, eq=False)
class Isometry:
    """How one block carries cotangents back, summed over `rows` tokens."""

    sent: Float[Tensor, "d_model d_model"]
    """G_out^T G_out, G_out the +-1 cotangents at the block's output."""
    returned: Float[Tensor, "d_model d_model"]
    """G_in^T G_out, G_in what comes back at its input."""
    rows: int
    is_identity: bool
    """G_in is G_out, bit for bit."""


@dataclass(frozen=True, slots=True, eq=False)
class Passes:
    """Everything one shared run collected. Tensors are detached; reading them cannot change the model.

    What no proxy of the run needed is empty or None.
    """

    matrices: tuple[Matrix, ...] = ()
    hidden: tuple[Hidden, ...] = ()
    num_params: int = 0
    """Of the whole model, tied weights once."""
    num_micro_batches: int = 0
    loss: float = math.nan
    """Mean loss over the gradient examples; NaN when no backward ran."""
    wall_s: float = 0.0
    architecture: Architecture | None = None
    """As it was given, with its number formats; None for a network of another origin."""
    is_causal: bool = False
    num_layers: int = 0
    """Blocks that ran, shared ones every time."""
    signs: tuple[Signs, ...] = ()
    probabilities: tuple[Confidence, ...] = ()
    reads: tuple[float, ...] = ()
    """For every map by which a mixer reads the stream (queries, keys, ...): the largest output over the
    tokens, mean over batch and channels."""
    features: tuple[Float[Tensor, "examples _ _"], ...] = ()
    """Output of every block [examples, tokens, d_model]."""
    activation_gradients: tuple[Float[Tensor, "examples _"], ...] = ()
    """Sum over the tokens of activation times gradient of the mean loss, for the outputs of mixers and the
    hidden layers of feed-forwards."""
    embedding_gradients: Float[Tensor, "examples _"] | None = None
    """Of the random-projection loss, with respect to the embedded tokens of each example."""
    example_gram: Float[Tensor, "examples examples"] | None = None
    """G G^T in float64, rows of G the gradient of one example's random-projection loss in all matrices."""
    isometry: tuple[Isometry, ...] = ()
    log_flow: float | None = None
    """log R: logarithm of what the positive linearised network makes of an input of ones."""
    positive: tuple[Matrix, ...] = ()
    """Absolute weights of embedding, mixers, feed-forwards and head, with the gradient of the sum of logits
    that the network with these weights has for an input of ones."""
    noise: tuple[float, ...] = ()
    """Squared relative error by number formats, after every block and at the logits."""
