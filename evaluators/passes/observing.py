"""Hooks that read one forward pass at the hook points of a network.

                 embedded            block 0 .. L - 1                last
    inputs --> X_0 --> | reads | probabilities | mixer output |  --> Y --> head --> logits
                       | pre-activation signs  | hidden       |
                         output of the block: features

Sums over micro-batches are kept here; tensors that belong to the graph of the running micro-batch are in
`graph` until the next one begins.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .points import Points
from .records import Confidence, Need, ProbeInput, Signs
from .rows import HiddenRows

Sight = Literal["all", "rows", "nothing"]
"""What a forward pass adds to: everything, hidden rows alone, or only `graph`'s two ends."""

ForwardHook = Callable[[nn.Module, tuple[Any, ...], Any], Any]


@dataclass(slots=True)
class Graph:
    """Tensors of the running micro-batch, with their graph where gradients are on."""

    embedded: Tensor | None = None
    last: Tensor | None = None
    blocks: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Input and output of every block that ran."""
    activations: list[Tensor] = field(default_factory=list)
    """Outputs of mixers and hidden layers of feed-forwards, a row per token."""


class ProbabilityPoint(nn.Module):
    """Stands where nothing changes the probabilities, and only looks at them."""

    def __init__(self, look: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.look = look

    def forward(self, probabilities: Tensor) -> Tensor:
        self.look(probabilities)
        return probabilities


class Observer:
    """What the forward passes between `attached()` and its end show, as `needs` wants it."""

    def __init__(
        self, model: nn.Module, points: Points, needs: frozenset[Need], *, probe: ProbeInput = "real"
    ) -> None:
        self._model, self._points, self._needs, self._probe = model, points, needs, probe
        self.graph = Graph()
        self.rows = HiddenRows()
        self.needs_leaf = bool(needs & {"activation_gradients", "embedding_gradients", "isometry"})
        """Gradients go back to the embedded tokens."""
        self._sees: Sight = "all"
        self._share = 1.0
        self._restart()
        self._signs: dict[int, tuple[int, list[Tensor], list[Tensor]]] = {}
        self._confidence: dict[int, tuple[int, float, float]] = {}
        self._reads: dict[int, float] = {}
        self._features: list[list[Tensor]] = []

    def begin(self, share: float = 0.0, *, sees: Sight = "all") -> None:
        """Before every forward pass; `share` of all gradient examples are in it."""
        self.graph = Graph()
        self._share, self._sees = share, sees
        self._restart()

    def _restart(self) -> None:
        """Counters within one forward pass, before their first."""
        self._number = self._layer = self._nonlinearity = self._read = self._place = -1

    # -- what was seen -----------------------------------------------------------------------------

    def signs(self) -> tuple[Signs, ...]:
        return tuple(
            Signs(number, torch.cat(positive), torch.cat(means))
            for _, (number, positive, means) in sorted(self._signs.items())
        )

    def probabilities(self) -> tuple[Confidence, ...]:
        return tuple(Confidence(*one) for _, one in sorted(self._confidence.items()))

    def reads(self) -> tuple[float, ...]:
        return tuple(value for _, value in sorted(self._reads.items()))

    def features(self) -> tuple[Tensor, ...]:
        """Output of every block, all gradient examples."""
        return tuple(torch.cat(chunks) for chunks in self._features)

    # -- hooks -------------------------------------------------------------------------------------

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Every hook is gone at the end, and every probability point is what it was."""
        with ExitStack() as hooks:

            def after(module: nn.Module | None, hook: ForwardHook) -> None:
                if module is not None:
                    hooks.callback(module.register_forward_hook(hook).remove)

            def before(module: nn.Module, hook: Callable[[nn.Module, tuple[Any, ...]], None]) -> None:
                hooks.callback(module.register_forward_pre_hook(hook).remove)

            for point in self._points.feed_forwards:
                before(point.module, self._enter_feed_forward)
                if self._needs & {"hidden", "activation_gradients"}:
                    after(point.hidden, self._hidden)
                for nonlinearity in point.nonlinearities if "signs" in self._needs else ():
                    before(nonlinearity, self._pre_activation)
            for mixer in self._points.mixers:
                before(mixer, self._enter_mixer)
                if "activation_gradients" in self._needs:
                    after(mixer, self._mixed)
            if "reads" in self._needs:
                for module, width in self._readers():
                    after(module, self._read_hook(width))
            if "probabilities" in self._needs:
                for module, name in self._points.probabilities:
                    self._watch(module, name, hooks)
            if self._needs & {"features", "isometry", "noise"}:
                for block in dict.fromkeys(self._points.blocks):
                    after(block, self._block)
            if self.needs_leaf or self._probe == "gaussian_embedding":
                after(self._points.embedded, self._embedded)
            after(self._points.last, self._last)
            yield

    def _readers(self) -> Iterator[tuple[nn.Module, int]]:
        """Modules that own a matrix by which a mixer reads, and how many outputs it has."""
        for name, parameter in self._model.named_parameters():
            role = self._points.roles.get(name)
            if role is not None and role.role == "mixer.in" and parameter.ndim == 2:
                yield self._model.get_submodule(name.rpartition(".")[0]), parameter.shape[0]

    def _watch(self, module: nn.Module, name: str, hooks: ExitStack) -> None:
        """A module that is there is hooked; in place of None stands one that only looks."""
        present = getattr(module, name)
        if present is not None:
            hooks.callback(present.register_forward_hook(lambda _, __, out: self._attended(out)).remove)
            return
        # past the registration of submodules, so that the module is afterwards what it was
        object.__setattr__(module, name, ProbabilityPoint(self._attended))
        hooks.callback(object.__setattr__, module, name, None)

    def _enter_feed_forward(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._number += 1

    def _enter_mixer(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._layer += 1

    def _hidden(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if "hidden" in self._needs and self._sees != "nothing":
            self.rows.add(self._number, output)
        if output.ndim == 3 and self._sees == "all":
            self.graph.activations.append(output)

    def _mixed(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if self._sees == "all":
            self.graph.activations.append(output)

    def _pre_activation(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Experts see their tokens out of order: they have no code per example."""
        u: Tensor = inputs[0].detach()
        if self._sees != "all" or u.ndim != 3:
            return
        self._nonlinearity += 1
        kept = self._signs.setdefault(self._nonlinearity, (self._number, [], []))
        kept[1].append((u > 0).flatten(1))
        kept[2].append(u.mean(1))

    def _attended(self, probabilities: Tensor) -> None:
        if self._sees != "all":
            return
        self._place += 1
        shown = probabilities.detach()
        key = self._share * float(shown.amax(-1).mean())
        head = self._share * float(shown.amax(-3).mean())
        _, keys, heads = self._confidence.get(self._place, (0, 0.0, 0.0))
        self._confidence[self._place] = (self._layer, keys + key, heads + head)

    def _read_hook(self, width: int) -> ForwardHook:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            is_map = isinstance(output, Tensor) and output.ndim == 3 and output.shape[-1] == width
            if is_map and self._sees == "all":
                self._read += 1
                largest = self._share * float(output.detach().amax(1).mean())
                self._reads[self._read] = self._reads.get(self._read, 0.0) + largest

        return hook

    def _block(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if self._sees != "all":
            return
        place = len(self.graph.blocks)
        self.graph.blocks.append((inputs[0], output))
        if "features" in self._needs:
            while len(self._features) <= place:
                self._features.append([])
            self._features[place].append(output.detach())

    def _embedded(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """A leaf of the graph, so that gradients end there."""
        x = torch.randn_like(output) if self._probe == "gaussian_embedding" else output
        if not self.needs_leaf or not torch.is_grad_enabled():
            return x
        self.graph.embedded = x.detach().requires_grad_(True)
        return self.graph.embedded

    def _last(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self.graph.last = output
