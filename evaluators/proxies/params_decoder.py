"""Parameters without the embedding.

    S = trainable numbers - those of the token, value or patch embedding; a tied head counts as embedding

Source: Javaheripi et al. 2022, arXiv:2203.02094 (LiteTransformerSearch), for decoders of one family.
"""

from space.architecture import Architecture
from space.costs import embedding_size, num_params

from ..proxy import Score, StaticProxy


class ParamsDecoder(StaticProxy):
    id = "params_decoder"
    version = 1
    direction = "max"
    summary = "trainable parameters without the embedding"

    def value(self, architecture: Architecture) -> Score:
        return Score(float(num_params(architecture) - embedding_size(architecture)))
