"""BOSHNAS-style search: three small networks, and gradients with respect to the architecture.

    (mean, noise)  heteroscedastic network, Gaussian negative log likelihood
    teacher        network with Monte-Carlo dropout; its deviation over passes is what it does not know
    student        network fitted to the teacher's deviation, so that it is cheap and has a gradient
    acquisition    a(x) = mean(x) - (student(x) + noise(x)) / 2, minimised over genes in [0, 1] by L-BFGS from
                   known points, then decoded to the nearest options

Source: Tuli et al. 2022, arXiv:2205.11656 (FlexiBERT). Different here: several objectives by a Chebyshev
scalarisation whose weights are drawn for every trial, L-BFGS in the place of AdaHessian.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from space.architecture import Architecture
from space.encoding import VectorEncoding, scaled
from space.gene import Value
from space.sampling import sample
from space.search_space import SearchSpace

from ..pareto import log_scaled
from .gp import chebyshev
from .nsga2 import WARM_UP, survivors
from .optuna_study import recent
from .strategy import Proposal, Told, stream, stream_seed

HIDDEN, STEPS, RATE = 32, 120, 0.02
DROPOUT, PASSES = 0.1, 16
STARTS, CLIMBS = 4, 15
NEWEST = 200
"""Results besides the front that the networks see."""


@dataclass(frozen=True)
class Boshnas:
    """Gradient-based search on a surrogate that knows two kinds of uncertainty."""

    space: SearchSpace
    seed: int
    objectives: tuple[str, ...]
    """Objective keys; logarithmic ones are modelled by their logarithm."""

    def ask(
        self, number: int, history: Sequence[Told], pending: Sequence[Architecture], *, draw: int = 0
    ) -> Proposal:
        """Random until `WARM_UP` finished and feasible results are in. Does not look at pending."""
        rng = stream(self.seed, number, draw)
        known = [told for told in history if told.objectives is not None and told.complete and told.feasible]
        if len(known) < WARM_UP:
            return Proposal(sample(self.space, rng), origin="random")
        seen = recent(known, self.objectives, NEWEST)
        vectors = [log_scaled(told.objectives or (), self.objectives) for told in seen]
        target = np.array([value for (value,) in chebyshev(vectors, rng)])
        x = torch.from_numpy(self._encoding.rows([told.architecture for told in seen]))
        generator = torch.Generator().manual_seed(stream_seed(self.seed, number, draw))
        acquisition = _Acquisition.fitted(x, torch.from_numpy(target), generator)
        best = [member.told for member in survivors(seen, self.objectives, STARTS)]
        starts = [best[index % len(best)].architecture for index in range(STARTS // 2)]
        starts += [sample(self.space, rng) for _ in range(STARTS - len(starts))]
        found = acquisition.minimised(torch.from_numpy(self._encoding.rows(starts)))
        return Proposal(
            self._decoded(found.numpy()), origin="model", note=f"boshnas over {len(seen)} results"
        )

    @cached_property
    def _encoding(self) -> VectorEncoding:
        return VectorEncoding(self.space)

    def _decoded(self, row: np.ndarray) -> Architecture:
        """The nearest option of every ordered gene, the strongest of every other."""
        genotype: dict[str, Value] = {}
        column = 0
        for gene in self.space.genes():
            if gene.ordinal:
                places = np.array([scaled(gene, option) for option in gene.options])
                genotype[gene.name] = gene.options[int(np.argmin(np.abs(places - row[column])))]
                column += 1
            else:
                genotype[gene.name] = gene.options[int(np.argmax(row[column : column + len(gene.options)]))]
                column += len(gene.options)
        return self.space.decode(genotype)


@dataclass(frozen=True, slots=True)
class _Acquisition:
    """Three fitted networks."""

    network: nn.Module
    student: nn.Module

    @classmethod
    def fitted(cls, x: Tensor, y: Tensor, generator: torch.Generator) -> "_Acquisition":
        network = _net(x.shape[1], 2, generator)
        _fit(network, lambda: _likelihood(network(x), y))
        teacher = _net(x.shape[1], 1, generator)

        def passed() -> Tensor:
            hidden = torch.tanh(teacher[0](x))
            keep = torch.rand(hidden.shape, generator=generator, dtype=x.dtype) >= DROPOUT
            found: Tensor = teacher[2](hidden * keep / (1 - DROPOUT))[:, 0]
            return found

        _fit(teacher, lambda: ((passed() - y) ** 2).mean())
        with torch.no_grad():
            unknown = torch.stack([passed() for _ in range(PASSES)]).std(dim=0)
        student = _net(x.shape[1], 1, generator)
        _fit(student, lambda: ((student(x)[:, 0] - unknown) ** 2).mean())
        return cls(network, student)

    def __call__(self, x: Tensor) -> Tensor:
        mean, log_noise = self.network(x).unbind(1)
        unknown: Tensor = self.student(x)[:, 0].clamp(min=0)
        found: Tensor = mean - 0.5 * (unknown + torch.exp(0.5 * log_noise.clamp(-12, 4)))
        return found

    def minimised(self, starts: Tensor) -> Tensor:
        """The best of what the starts come down to, within [0, 1]."""
        free = torch.logit(starts.clamp(0.02, 0.98)).requires_grad_()
        optimizer = torch.optim.LBFGS([free], max_iter=CLIMBS, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            value = self(torch.sigmoid(free)).sum()
            value.backward()  # type: ignore[no-untyped-call]  # torch has no types here
            return value

        optimizer.step(closure)  # type: ignore[no-untyped-call]  # likewise
        with torch.no_grad():
            ends = torch.sigmoid(free)
            return ends[int(self(ends).argmin())]


def _likelihood(found: Tensor, y: Tensor) -> Tensor:
    mean, log_noise = found.unbind(1)
    log_noise = log_noise.clamp(-12, 4)
    return (0.5 * log_noise + 0.5 * (y - mean) ** 2 * torch.exp(-log_noise)).mean()


def _net(inputs: int, outputs: int, generator: torch.Generator) -> nn.Sequential:
    net = nn.Sequential(nn.Linear(inputs, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, outputs)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            fan = parameter.shape[-1] if parameter.ndim == 2 else HIDDEN
            parameter.copy_(
                torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) / fan**0.5
            )
    return net


def _fit(net: nn.Module, loss: Callable[[], Tensor]) -> None:
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, weight_decay=1e-4)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]  # likewise
        optimizer.step()
