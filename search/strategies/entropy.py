"""Entropy seeds: for one budget of parameters after another, the stack with the largest entropy.

    maximise  log(n d) * sum over layers of g(layer)     subject to  sum of parameters <= budget,
                                                          branches / d <= `EFFECTIVENESS`

g: half the sum of log fan-ins of a layer (`evaluators.proxies.EntropyMad`). For one width the problem is a
knapsack over layers, solved exactly by dynamic programming over (parameters, entropy) pairs that no other
beats; widths and depths are listed. Budgets halve the range of log parameters again and again. When the seeds
are used up, NSGA-II goes on from them.

Source: Shen et al. 2023, arXiv:2303.02165 (DeepMAD); evaluators_and_search.md 12.9, 3.20. Where no stack of a
budget keeps the effectiveness, it is not asked for: small spaces have nothing that does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

from evaluators.proxies.entropy_mad import EntropyMad
from space.architecture import Architecture
from space.batch_costs import CostTable
from space.gene import Value
from space.layer_options import active_feed_forward_genes, active_mixer_genes
from space.search_space import SearchSpace

from .nsga2 import Nsga2
from .strategy import Proposal, Told

SEEDS = 12
EFFECTIVENESS = 0.05
FEWEST_PARTS = 1000
"""Budgets are counted in this many parts: pairs nearer to each other than one part are one."""

_Layer = dict[str, Value]


@dataclass(frozen=True, slots=True)
class _Stack:
    """Options of the layers chosen so far."""

    params: int
    entropy: float
    layers: tuple[int, ...]


@dataclass(frozen=True)
class Entropy:
    """Seeds by mathematical programming, then NSGA-II."""

    space: SearchSpace
    seed: int
    objectives: tuple[str, ...]
    _proxy: EntropyMad = field(default_factory=EntropyMad, repr=False, compare=False)

    def ask(
        self, number: int, history: Sequence[Told], pending: Sequence[Architecture], *, draw: int = 0
    ) -> Proposal:
        """The next seed that is neither known nor pending; a failed trial does not bring its seed back."""
        taken = {told.architecture.id for told in history} | {one.id for one in pending}
        left = [one for one in self._seeds if one.id not in taken]
        if left:
            chosen = left[(number + draw) % len(left)]
            return Proposal(chosen, origin="start", note="largest entropy of its size")
        return Nsga2(self.space, self.seed, self.objectives).ask(number, history, pending, draw=draw)

    @cached_property
    def _seeds(self) -> tuple[Architecture, ...]:
        found: list[Architecture] = []
        options = self._options(max(self.space.domains.d_model))
        for width in self.space.domains.d_model:
            for depth in self.space.domains.num_layers:
                found += self._best_of(width, depth, options)
        scored = [(size, self._proxy.value(one)) for one, size in zip(found, _params(found), strict=True)]
        low, high = (math.log(bound([size for size, _ in scored])) for bound in (min, max))
        chosen: dict[str, Architecture] = {}
        for index in range(SEEDS):
            budget = math.exp(low + (high - low) * (1.0 - van_der_corput(index)))
            affordable = [k for k, (size, _) in enumerate(scored) if size <= budget * (1 + 1e-9)]
            effective = [k for k in affordable if scored[k][1].detail["effectiveness"] <= EFFECTIVENESS]
            best = max(effective or affordable, key=lambda k: (scored[k][1].value, -k))
            chosen.setdefault(found[best].id, found[best])
        return tuple(chosen.values())

    def _best_of(self, width: int, depth: int, options: Sequence[_Layer]) -> list[Architecture]:
        """One architecture for each pair of parameters and entropy that no other stack of this width and
        depth beats, at most `SEEDS` of them, spread over the range.
        """
        # stacks of one option: parameters and entropy are sums over layers, so differences are in proportion
        bases = [self._decoded(width, [option]) for option in options]
        sizes = _params(bases)
        least = min(sizes)
        items = [
            (size - least, self._proxy.value(one).value / math.log(one.tokens * width))
            for size, one in zip(sizes, bases, strict=True)
        ]
        part = max(1, max(extra for extra, _ in items) * depth // FEWEST_PARTS)
        stacks = [_Stack(0, 0.0, ())]
        for _ in range(depth):
            grown = [
                _Stack(stack.params + extra, stack.entropy + entropy, (*stack.layers, index))
                for stack in stacks
                for index, (extra, entropy) in enumerate(items)
            ]
            stacks = _unbeaten(grown, part)
        picked = {round(k * (len(stacks) - 1) / max(1, SEEDS - 1)) for k in range(SEEDS)}
        return [
            self._decoded(width, [options[index] for index in stacks[place].layers])
            for place in sorted(picked)
        ]

    def _options(self, width: int) -> list[_Layer]:
        """Settings of a layer that no other beats in both parameters and entropy at this width."""
        domains = self.space.domains
        listed: list[_Layer] = []
        for mixer, feed_forward in product(domains.mixer, domains.feed_forward):
            genes = [
                gene
                for gene in (*active_mixer_genes(mixer), *active_feed_forward_genes(feed_forward))
                if gene in ("ff_ratio", "num_hidden")
            ]
            kinds: _Layer = {"mixer": mixer, "feed_forward": feed_forward}
            every = product(*(domains.options(gene) for gene in genes))
            listed += [{**kinds, **dict(zip(genes, values, strict=True))} for values in every]
        built = [self._decoded(width, [layer]) for layer in listed]
        stacks = [
            _Stack(size, self._proxy.value(one).value, (index,))
            for index, (size, one) in enumerate(zip(_params(built), built, strict=True))
        ]
        return [listed[stack.layers[0]] for stack in _unbeaten(stacks, 1)]

    def _decoded(self, width: int, layers: Sequence[_Layer]) -> Architecture:
        depth = min(self.space.domains.num_layers, key=lambda n: (abs(n - len(layers)), n))
        stack = [dict(layers[min(index, len(layers) - 1)]) for index in range(depth)]
        return self.space.decode(self.space.genotype({"d_model": width, "num_layers": depth}, stack))


def _unbeaten(stacks: Sequence[_Stack], part: int) -> list[_Stack]:
    """By parameters; each has more entropy than all smaller ones; one of those in the same part."""
    kept: dict[int, _Stack] = {}
    best = -math.inf
    for stack in sorted(stacks, key=lambda one: (one.params, -one.entropy, one.layers)):
        if stack.entropy > best + 1e-12:
            best = stack.entropy
            kept[stack.params // part] = stack
    return list(kept.values())


def _params(architectures: Sequence[Architecture]) -> list[int]:
    return [int(n) for n in CostTable().costs(architectures)["params"]]


def van_der_corput(index: int) -> float:
    """0, 1/2, 1/4, 3/4, 1/8, ...: every prefix covers [0, 1) evenly."""
    bits = f"{index:b}"[::-1]
    return math.fsum(int(bit) / 2.0 ** (place + 1) for place, bit in enumerate(bits))
