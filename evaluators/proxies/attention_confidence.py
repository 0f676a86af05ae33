"""Attention confidence: how sure heads are of one key.

    conf_key  = mean over batch, heads and queries of the largest probability over the keys
    conf_head = mean over batch, queries and keys of the largest probability over the heads
    S = mean of conf_key over the layers that have probabilities

`conf_head` is what published code computes and stands beside it, as does the sum over layers, whose strength
is depth. Rows that fill up a last block count as they are computed. Source: Serianni and Kalita 2023, ACL
(softmax confidence), after Voita et al. 2019, arXiv:1905.09418.
"""

import statistics
from collections import defaultdict

from space.errors import UnsupportedError

from ..passes import Confidence, Passes
from ..proxy import Proxy, Score


class AttentionConfidence(Proxy):
    id = "attention_confidence"
    version = 1
    direction = "max"
    needs = frozenset({"probabilities"})
    summary = "how much of a query's attention goes to one key"

    def score(self, passes: Passes) -> Score:
        """`share` is that of the layers that have probabilities; a network without any is not supported."""
        if not passes.probabilities:
            raise UnsupportedError(
                "attention_confidence: no mixer has a probability matrix; use other proxies"
            )
        by_layer: dict[int, list[Confidence]] = defaultdict(list)
        for place in passes.probabilities:
            by_layer[place.layer].append(place)
        keys = [statistics.fmean(one.largest_key for one in own) for own in by_layer.values()]
        heads = [statistics.fmean(one.largest_head for one in own) for own in by_layer.values()]
        return Score(
            statistics.fmean(keys),
            {
                "conf_head": statistics.fmean(heads),
                "sum_over_layers": sum(keys),
                "share": len(by_layer) / max(len(by_layer), passes.num_layers),
            },
        )
