"""ZiCo: how steady the gradients are from micro-batch to micro-batch, relative to their size.

    S = sum over matrices W of log( sum over elements p of W with sigma_p > 0 of  E|g_p| / sigma_p )

E and sigma (population) over K micro-batches, sigma of the signed gradient.

Source: Li et al. 2023, arXiv:2301.11300, as its released code computes it. Different here: fused matrices are
taken apart, so that the score does not depend on how a module stores them; embedding and head stay out.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from space.errors import InvalidInputError, UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score


class ZiCo(Proxy):
    id = "zico"
    version = 1
    direction = "max"
    needs = frozenset({"gradients"})
    summary = "steadiness of the gradients over micro-batches"

    def score(self, passes: Passes) -> Score:
        """Grows with depth, as a sum over matrices; the mean stands beside it as `mean_over_matrices`.

        At initialisation the ratios are of order 1 in every matrix, so the score is close to the sum of the
        matrices' log sizes (Kendall's tau 0.93 over 24 random architectures): hold it against depth and size.

        Raises:
            InvalidInputError: one micro-batch has no deviation.
        """
        if passes.num_micro_batches < 2:
            raise InvalidInputError(
                f"zico: {passes.num_micro_batches} micro-batch has no deviation; give 2 or more examples"
            )
        if not passes.matrices:
            raise UnsupportedError(
                "zico: no mixer or feed-forward has a weight matrix; leave it to other proxies"
            )
        terms = [
            log_signal(matrix.gradient_mean_abs, matrix.gradient_std)
            for matrix in passes.matrices
            if matrix.gradient_mean_abs is not None and matrix.gradient_std is not None
        ]
        counted = [term for term in terms if term is not None]
        if not counted:
            return Score(math.nan)
        total = math.fsum(counted)
        skipped = len(terms) - len(counted)
        return Score(total, {"mean_over_matrices": total / len(counted), "matrices_skipped": float(skipped)})


def log_signal(
    mean_abs: Float[Tensor, "outputs inputs"], std: Float[Tensor, "outputs inputs"]
) -> float | None:
    """The logarithm of one matrix's summed ratios; None when no element varies, NaN when one is NaN."""
    varies = std != 0.0
    if not bool(varies.any()):
        return None
    ratios = torch.where(varies, mean_abs.double() / std.double(), 0.0).sum()
    return float(ratios.log())


def zico_reference(gradients: Sequence[Float[Tensor, "_ _ _"]]) -> float:
    """The score from every matrix's stacked micro-batch gradients of equal weight, element by element."""
    terms = []
    for stack in gradients:
        total = 0.0
        for values in stack.double().flatten(1).T.tolist():
            mean = math.fsum(values) / len(values)
            deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
            if deviation > 0.0:
                total += math.fsum(map(abs, values)) / len(values) / deviation
        if total > 0.0:
            terms.append(math.log(total))
    return math.fsum(terms) if terms else math.nan
