"""Where proxies look into a network: roles and hook points, so that none of them knows a module class."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from space.choice import FeedForward, Mixer, Norm
from space.embedding import ClassToken
from space.model import Block, Model, parameter_roles
from space.roles import ParameterRole


@dataclass(frozen=True, slots=True, eq=False)
class FeedForwardPoint:
    """One feed-forward; its module is called before what is inside it."""

    module: nn.Module
    hidden: nn.Module
    """An identity, or the last module before the hidden layer is read."""
    nonlinearities: tuple[nn.Module, ...] = ()
    is_gated: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Modules of one network. A module that runs several times stands where it first runs."""

    roles: Mapping[str, ParameterRole]
    feed_forwards: tuple[FeedForwardPoint, ...] = ()
    mixers: tuple[nn.Module, ...] = ()
    probabilities: tuple[tuple[nn.Module, str], ...] = ()
    """Modules and their attributes of `Mixer.probability_points`."""
    blocks: tuple[nn.Module, ...] = ()
    """Every run of every block, in order: shared ones several times."""
    norms: tuple[nn.Module, ...] = ()
    embedding: nn.Module | None = None
    embedded: nn.Module | None = None
    """Its output are the embedded tokens [batch, tokens, d_model]."""
    last: nn.Module | None = None
    """Its output is the last hidden state."""
    head: nn.Module | None = None
    ends_in_norm: bool = True
    is_causal: bool = False
    d_model: int = 0


def points_of(model: Model) -> Points:
    """Of a model of the space."""
    blocks = [block for block in model.blocks if isinstance(block, Block)]
    mixers = list(dict.fromkeys(block.mixer for block in blocks))
    return Points(
        roles=parameter_roles(model),
        feed_forwards=tuple(_feed_forward(one) for one in dict.fromkeys(model.feed_forwards())),
        mixers=tuple(mixers),
        probabilities=tuple(
            (module, name)
            for module in dict.fromkeys(itertools.chain.from_iterable(mixer.modules() for mixer in mixers))
            if isinstance(module, Mixer)
            for name in module.probability_points
        ),
        blocks=tuple(blocks),
        norms=tuple(module for module in model.modules() if isinstance(module, Norm)),
        embedding=model.embedding.tokens if isinstance(model.embedding, ClassToken) else model.embedding,
        embedded=model.position,
        last=model.final_norm,
        head=model.head,
        ends_in_norm=isinstance(model.final_norm, Norm),
        is_causal=model.is_causal,
        d_model=model.d_model,
    )


def _feed_forward(module: FeedForward) -> FeedForwardPoint:
    return FeedForwardPoint(module, module.hidden, module.nonlinearities(), module.is_gated)
