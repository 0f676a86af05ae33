"""No feed-forward: the layer is its mixer alone.

    x <- x + mixer(norm(x))

For mixers with a nonlinearity over channels of their own (`own_nonlinearity`): what would be spent on
channels buys depth instead. Source: Gu and Dao 2023, arXiv:2312.00752, section 3.4 (Mamba's block).
"""

from typing import ClassVar, Literal

from ..choice import FeedForwardChoice, Surroundings


class NoFeedForwardConfig(FeedForwardChoice):
    """Nothing is built; `Block` leaves the branch and its norm out."""

    is_present: ClassVar[bool] = False

    kind: Literal["none"] = "none"

    def halved(self) -> "NoFeedForwardConfig":
        return self

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        return 0
