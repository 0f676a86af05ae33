"""The least cost of a space against its definition: the least over all members, or over all single layers."""

import math
from itertools import product
from typing import Any

import pytest

from space.architecture import BytesInterface, ImageInterface
from space.constraints import STATIC_KEYS, smallest, static_costs
from space.gene import Value
from space.genes import own_genes
from space.mixers import MIXERS
from space.sampling import enumerate_space
from space.search_space import SearchSpace, load_preset

TEXT = BytesInterface(context_length=16, outputs=256)
IMAGE = ImageInterface(height=8, width=8, channels=1, patch_size=2, outputs=10)


def space_of(preset: str, **changes: Any) -> SearchSpace:
    space = load_preset(preset)
    if space.model == "vision":
        return space.with_domains(changes).for_interface(IMAGE)
    outputs = 256 if space.model == "decoder" else 3
    return space.with_domains(changes).for_interface(TEXT.model_copy(update={"outputs": outputs}))


ONE: dict[str, Any] = {"d_model": 32, "head_width": 16, "kv_heads": "full", "activation": "relu"}
PLAIN: dict[str, Any] = {
    **ONE, "num_layers": [1, 2], "tied": True, "rank_ratio": 1, "norm": "rmsnorm", "placement": "pre",
    "clipped_softmax": 0, "score": "sdp", "gated_attention": "none", "number_format": "fp32",
}  # fmt: skip
UNTIED = {key: value for key, value in PLAIN.items() if key != "tied"}
SPACES: dict[str, SearchSpace] = {
    "positions and sharing": space_of(
        "decoder-full",
        **{
            **PLAIN, "position": ["t5_bias", "learned"], "sharing": ["none", "all"],
            "mixer": ["softmax", "pool"],
            "kv_heads": ["one", "half"], "qk_norm": False, "feed_forward": ["mlp", "moe"],
            "experts_per_token": 1, "ff_ratio": 1, "granularity": 1, "pool_width": 3, "residual": "macaron",
            "private_norm": [False, True], "qkv_dconv": 0,
        },
    ),
    "blind mixers": space_of(
        "encoder-full",
        **{
            **UNTIED, "num_layers": 2, "pooling": "mean",
            "position": ["rope", "learned"], "mixer": ["glu_only", "gated_conv"], "gates": 1,
            "conv_width": 3, "feed_forward": ["none", "glu"], "ffn_gate": "silu", "ff_ratio": [1, 2],
            "residual": ["serial", "parallel"], "sharing": "none",
        },
    ),
    "formats, ranks and patches": space_of(
        "vision-full",
        **{
            **UNTIED, "num_layers": 1, "pooling": "mean",
            "patch_size": [2, 4], "position": "learned", "rank_ratio": [1, 0.25],
            "mixer": ["linear_elu", "dft"],
            "feed_forward": ["glu", "nested"], "granularity": [1, 2], "ff_ratio": 1, "residual": "serial",
            "number_format": ["fp32", "int8_dynamic", "int4_g32"], "d_model": [32, 40], "ffn_gate": "silu",
        },
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_the_floor_is_the_least_over_the_whole_space(name: str) -> None:
    """Up to a little where one mixer may see order for another: what is least of all need not go together."""
    space = SPACES[name]
    everything = enumerate_space(space, 4000)
    assert len(everything) == space.size() < 4000
    counted = [static_costs(one, 2) for one in everything]
    for key in STATIC_KEYS:
        least = min(found[key] for found in counted)
        if name == "blind mixers":
            assert 0.98 * least <= smallest(space, key, 2) <= least, key
        else:
            assert smallest(space, key, 2) == least, key


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["decoder-full", "vision-full"])
def test_genes_taken_one_by_one_give_the_least_of_their_combinations(preset: str) -> None:
    """Every mixer alone, with the domains of its genes cut to their ends."""
    some = load_preset(preset)
    position = [kind for kind in some.domains.position if kind in ("rope", "learned")]
    ends = {
        "head_width": [8, 16], "kv_heads": ["full", "one"], "window": [4, 16], "clipped_softmax": [0, 4],
        "gated_attention": ["none", "per_token_full"], "ssd_state": [16, 64], "conv_width": [3, 7],
        "qk_norm": False,
    }  # fmt: skip
    common = {
        **PLAIN, **ends, "num_layers": 1, "feed_forward": "mlp", "ff_ratio": 1, "residual": "serial",
        "sharing": "none", "position": position[:1], "score": ["sdp", "wma"], "number_format": "int4_g32",
    }  # fmt: skip
    common |= {} if some.model == "decoder" else {"pooling": "mean", "patch_size": 2}
    if some.model != "decoder":
        del common["tied"]
    for kind in some.domains.mixer:
        space = space_of(preset, **{**common, "mixer": kind})
        names = [gene.name for gene in own_genes(MIXERS[kind])]
        least = dict.fromkeys(STATIC_KEYS, math.inf)
        for values in product(*(space.domains.of(name) for name in names)):
            levels: dict[str, Value] = {"mixer": kind, **dict(zip(names, values, strict=True))}
            found = static_costs(space.decode(space.genotype({}, [levels])))
            least = {key: min(least[key], found[key]) for key in least}
        assert {key: smallest(space, key) for key in least} == least, kind


def test_a_rule_only_lowers_what_the_floor_says_of_single_layers() -> None:
    """Never above the least of the space: a limit that can be kept is not refused."""
    rules = [{"layers": "first", "mixer": ["gated_conv"]}, {"mixer": "softmax", "at_least": 1}]
    space = space_of(
        "lfm2", d_model=32, num_layers=[2, 3], head_width=16, kv_heads="one", conv_width=3, ff_ratio=2,
        number_format="fp32", tied=True, rules=rules,
    )  # fmt: skip
    everything = enumerate_space(space, 100)
    assert len(everything) == space.size()
    for key in STATIC_KEYS:
        least = min(static_costs(one)[key] for one in everything)
        assert 0.8 * least <= smallest(space, key) <= least


@pytest.mark.slow
def test_a_floor_takes_seconds_where_a_list_would_take_hours() -> None:
    """10^5 kinds of layers in 10^2 models around them: their sum is counted, not their product."""
    space = space_of("decoder-full")
    assert 0 < smallest(space, "macs") < static_costs(space.decode({}))["macs"]
