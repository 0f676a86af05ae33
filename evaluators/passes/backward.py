"""Groups C, E and F: what comes back through the graph of each micro-batch's forward pass.

    for every block      G_in = (dX_out / dX_in)^T G_out,  G_out = +-1      graph cut at the block's borders
    embedded tokens      dL_R / dX_0
    matrices             dL / dW, and its moments over the micro-batches
    activations Z        sum over tokens of Z * dL/dZ, for every example

L the mean loss of the whole batch; one forward pass serves all four.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .losses import loss_of, projection, share_of
from .moments import GradientMoments
from .observing import Graph, Observer
from .records import Isometry, Loss, Need


@dataclass(slots=True)
class Pulled:
    """Sums over micro-batches."""

    moments: dict[str, GradientMoments] = field(default_factory=dict)
    loss: float = 0.0
    activations: list[list[Tensor]] = field(default_factory=list)
    embedded: list[Tensor] = field(default_factory=list)
    blocks: list[Isometry] = field(default_factory=list)


def pull(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    chunks: Sequence[slice],
    weights: Mapping[str, nn.Parameter],
    observer: Observer,
    needs: frozenset[Need],
    *,
    loss: Loss,
    seed: int,
) -> Pulled:
    """Runs every micro-batch forward and back."""
    found = Pulled({name: GradientMoments() for name in weights})
    examples = chunks[-1].stop
    cotangents = torch.Generator().manual_seed(seed)
    for chunk in chunks:
        observer.begin((chunk.stop - chunk.start) / examples)
        share = share_of(loss, y[chunk], y[:examples])
        with torch.enable_grad():
            logits = model(x[chunk])
            graph = observer.graph
            if "isometry" in needs:
                _add_blocks(found, graph, cotangents)
            if "embedding_gradients" in needs and graph.embedded is not None and graph.last is not None:
                found.embedded.append(_embedded_gradient(graph.embedded, graph.last, seed))
            if needs & {"gradients", "activation_gradients", "curvature"}:
                value = loss_of(loss, logits, y[chunk], graph.last, seed)
                found.loss += share * float(value.detach())
                _add_gradients(found, value, weights, graph, share)
    return found


def _add_gradients(
    found: Pulled, value: Tensor, weights: Mapping[str, nn.Parameter], graph: Graph, share: float
) -> None:
    live = [activation for activation in graph.activations if activation.requires_grad]
    if not weights and not live:
        return
    gradients = torch.autograd.grad(
        value, [*weights.values(), *live], allow_unused=True, materialize_grads=True
    )
    for moment, gradient in zip(found.moments.values(), gradients[: len(weights)], strict=True):
        moment.add(gradient, share)
    for place, (activation, gradient) in enumerate(zip(live, gradients[len(weights) :], strict=True)):
        if len(found.activations) <= place:
            found.activations.append([])
        # the gradient of the mean over the whole batch, so that it does not matter how the batch was cut
        found.activations[place].append(share * (activation.detach() * gradient).sum(1))


def _embedded_gradient(embedded: Tensor, last: Tensor, seed: int) -> Tensor:
    """One row per example; examples do not meet, so the sum over them keeps their gradients apart."""
    (gradient,) = torch.autograd.grad(projection(last, seed).sum(), embedded, retain_graph=True)
    return gradient.flatten(1)


def _add_blocks(found: Pulled, graph: Graph, cotangents: torch.Generator) -> None:
    """All blocks of a micro-batch get the same cotangents; one that changes the shape is left out."""
    sent: Tensor | None = None
    kept = [(entered, left) for entered, left in graph.blocks if entered.shape == left.shape]
    for place, (entered, left) in enumerate(kept):
        if sent is None or sent.shape != left.shape:
            sent = (2.0 * torch.randint(0, 2, left.shape, generator=cotangents) - 1.0).to(left)
        (returned,) = torch.autograd.grad(left, entered, sent, retain_graph=True)
        rows, back = sent.flatten(0, 1), returned.flatten(0, 1)
        own = Isometry(rows.T @ rows, back.T @ rows, len(rows), torch.equal(rows, back))
        if len(found.blocks) <= place:
            found.blocks.append(own)
        else:
            before = found.blocks[place]
            found.blocks[place] = Isometry(
                before.sent + own.sent,
                before.returned + own.returned,
                before.rows + own.rows,
                before.is_identity and own.is_identity,
            )
