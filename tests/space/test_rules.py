"""Rules over depth: what is permitted, what is repaired, what is refused."""

import random
from typing import Any

import pytest

from space.architecture import BytesInterface
from space.errors import InvalidInputError
from space.rules import Rule, breaches, selected
from space.sampling import crossover, enumerate_space, mutate, neighbours, sample
from space.search_space import SearchSpace, load_preset

TEXT = BytesInterface(context_length=16, outputs=256)
DOMAINS: dict[str, Any] = {
    "num_layers": [1, 2, 3], "d_model": 32, "mixer": ["softmax", "sliding_window", "pool"],
    "head_width": 16, "kv_heads": "full", "window": [4, 32], "pool_width": 3, "feed_forward": ["mlp", "glu"],
    "activation": "relu", "ff_ratio": 2, "norm": "rmsnorm", "residual": "serial", "number_format": "fp32",
    "position": "rope", "shared": ["head_width"],
}  # fmt: skip


def space_with(*rules: dict[str, Any], **changes: Any) -> SearchSpace:
    space = load_preset("decoder-small").with_domains({**DOMAINS, **changes, "rules": list(rules)})
    return space.for_interface(TEXT)


def kinds(space: SearchSpace, seed: int) -> list[str]:
    return [layer.mixer.kind for layer in sample(space, random.Random(seed)).layers]


def test_windowed_first_global_later() -> None:
    space = space_with({"layers": "first half", "mixer": "pool"}, {"layers": "last half", "mixer": "softmax"})
    for seed in range(30):
        found = kinds(space, seed)
        half = len(found) // 2
        assert found == ["pool"] * half + ["softmax"] * (len(found) - half)


def test_counts_hold_for_canonical_layers_after_every_operation() -> None:
    # the window of 32 covers the context of 16: such a layer is softmax and counts as one
    space = space_with(
        {"mixer": "softmax", "at_most": 1}, {"layers": "last", "feed_forward": "mlp", "at_least": 1}
    )
    rng = random.Random(0)
    for seed in range(20):
        a, b = sample(space, random.Random(seed)), sample(space, random.Random(seed + 100))
        for one in (a, mutate(space, a, rng), crossover(space, a, b, rng), *neighbours(space, a)[:5]):
            assert [layer.mixer.kind for layer in one.layers].count("softmax") <= 1
            assert one.layers[-1].feed_forward.kind == "mlp"
            assert space.decode(space.encode(one)).id == one.id


@pytest.mark.slow
@pytest.mark.parametrize(
    "rules",
    [
        [{"layers": "first", "mixer": ["pool", "softmax"]}],
        [{"layers": "every 2", "mixer": "softmax"}, {"layers": "3", "window": 4}],
        [{"mixer": "softmax", "at_most": 1}],
        [{"mixer": ["pool"], "at_least": 1}, {"layers": "last", "feed_forward": "glu"}],
        [{"layers": "ends", "feed_forward": "mlp", "at_least": 2}],
    ],
)
def test_the_size_under_rules_is_the_number_of_what_can_be_listed(rules: list[dict[str, Any]]) -> None:
    space = space_with(*rules, num_layers=[1, 2], sharing=["none", "all"])
    assert space.size() == len(enumerate_space(space, 10_000)) > 1


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"layers": "frist", "mixer": "pool"}, "unknown layers 'frist'; did you mean 'first'"),
        ({"layers": "first", "mixxer": "pool"}, "rules.0: unknown key 'mixxer'; did you mean 'mixer'"),
        ({"layers": "first", "mixer": "linear_elu"}, "mixer=linear_elu is not in the space"),
        ({"layers": "first", "mixer": "sofmax"}, "did you mean 'softmax'"),
        ({"layers": "first", "head_width": 16}, "all layers share gene 'head_width'"),
        ({"window": 4, "at_most": 1}, "counts one gene of mixer or feed_forward"),
        ({"mixer": "pool", "at_most": -1}, "at_most"),
        ({"layers": "first"}, "rules.0: names no gene"),
        ({"mixer": "pool", "at_least": 3, "at_most": 1}, "at_least=3 is more than at_most=1"),
        ({"layers": "3-1", "mixer": "pool"}, "unknown layers '3-1'"),
        ("first: pool", "is not a rule"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(rule: Any, said: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        space_with(rule)
    assert said in caught.value.message


HARD: list[dict[str, Any]] = [
    {"rules": [{"mixer": "softmax", "at_least": 1, "at_most": 1}], "sharing": ["none", "all", "repeat_2"]},
    {"rules": [{"mixer": "softmax", "at_most": 1}, {"mixer": "pool", "at_most": 0},
               {"mixer": "softmax", "at_least": 1}]},
    {"rules": [{"feed_forward": "none", "at_least": 1}], "feed_forward": ["none", "mlp"],
     "mixer": ["softmax", "gated_conv"]},
    {"rules": [{"layers": "last", "feed_forward": ["none"]}], "feed_forward": ["glu", "none"],
     "mixer": ["softmax", "gated_conv"]},
    {"rules": [{"layers": "last", "feed_forward": ["none", "mlp"]}], "feed_forward": ["glu", "none", "mlp"],
     "mixer": ["softmax", "gated_conv"]},
    {"rules": [], "feed_forward": ["none", "glu"], "mixer": ["softmax", "gated_conv"],
     "shared": ["feed_forward"]},
    {"rules": [], "feed_forward": ["none"], "mixer": ["softmax", "gated_conv"]},
    {"rules": [], "sharing": ["all"]},
    {"rules": [], "sharing": ["cycle_3", "repeat_2"], "private_norm": [False, True]},
    {"rules": [{"layers": "first", "mixer": "pool"}], "shared": ["window", "head_width", "pool_width"]},
    {"rules": [], "shared": ["mixer", "window", "pool_width", "head_width", "feed_forward", "ff_ratio"]},
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", HARD, ids=str)
def test_whatever_is_drawn_or_varied_is_a_member(case: dict[str, Any]) -> None:
    small = {"window": 4, "conv_width": 3, "gates": 1}
    space = space_with(*case["rules"], **{**small, **{k: v for k, v in case.items() if k != "rules"}})
    rng = random.Random(0)
    for _ in range(25):
        one = sample(space, rng)
        for found in (one, mutate(space, one, rng), *neighbours(space, one)[:4]):
            assert space.decode(space.encode(found)).id == found.id


@pytest.mark.slow
@pytest.mark.parametrize("case", HARD, ids=str)
def test_the_size_counts_what_can_be_listed(case: dict[str, Any]) -> None:
    small = {"window": 4, "conv_width": 3, "gates": 1, "num_layers": [1, 2], "feed_forward": "mlp"}
    space = space_with(*case["rules"], **{**small, **{k: v for k, v in case.items() if k != "rules"}})
    assert space.size() == len(enumerate_space(space, 20_000)) >= 1


def test_a_count_no_stack_can_keep_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="cannot be kept"):
        # both mixers are softmax on a context of 16
        space_with({"mixer": "softmax", "at_most": 0}, mixer=["softmax", "sliding_window"], window=32)


def test_a_count_is_kept_where_only_another_window_helps() -> None:
    space = space_with({"mixer": "softmax", "at_most": 0}, mixer=["softmax", "sliding_window"])
    for seed in range(20):
        assert set(kinds(space, seed)) == {"sliding_window"}


def test_rules_survive_other_changes_and_can_be_replaced() -> None:
    space = space_with({"layers": "first", "mixer": "pool"})
    assert space.with_domains({"d_model": 64}).rules == space.rules
    assert space.with_domains({"rules": []}).rules == ()
    with pytest.raises(InvalidInputError, match="mixer=pool is not in the space"):
        space.with_domains({"mixer": ["softmax"]})


@pytest.mark.parametrize(
    ("words", "depth", "layers"),
    [
        ("all", 3, {0, 1, 2}), ("first", 3, {0}), ("last", 3, {2}), ("ends", 1, {0}), ("inner", 4, {1, 2}),
        ("first half", 5, {0, 1}), ("last half", 5, {2, 3, 4}), ("odd", 4, {0, 2}), ("even", 4, {1, 3}),
        ("every 3", 7, {2, 5}), ("2-9", 4, {1, 2, 3}), ("7", 4, set()),
    ],
)  # fmt: skip
def test_layers_are_named_from_one(words: str, depth: int, layers: set[int]) -> None:
    assert selected(words, depth) == layers


def test_a_rule_says_itself_as_it_may_be_written() -> None:
    rule = Rule(layers="last", domains=(("mixer", ("softmax", "pool")),), at_most=2)
    assert rule.told() == "{layers: last, mixer: [softmax, pool], at_most: 2}"
    assert breaches(rule, [("softmax", "mlp")]) == 0
    two = Rule(domains=(("mixer", ("pool",)),), at_least=2)
    assert breaches(two, [("pool", "mlp"), ("softmax", "mlp"), ("softmax", "glu")]) == -1
    assert Rule.model_validate({"layers": 1, "domains": rule.domains}).layers == "1"


@pytest.mark.parametrize("windows", [[8, 32], [32, 8]])
@pytest.mark.parametrize("shared", [[], ["window"]])
@pytest.mark.parametrize(
    ("rule", "feed_forward"),
    [
        ({"mixer": "sliding_window", "at_least": 1}, ["mlp"]),
        ({"mixer": "sliding_window", "at_most": 1}, ["none", "mlp"]),
        ({"mixer": "pool", "at_least": 1}, ["none", "mlp"]),
        ({"feed_forward": "mlp", "at_least": 1}, ["none", "mlp"]),
        ({"feed_forward": "mlp", "at_most": 1}, ["none", "mlp"]),
    ],
)
def test_a_counting_rule_is_repaired_with_whatever_else_must_change(
    windows: list[int], shared: list[str], rule: dict[str, Any], feed_forward: list[str]
) -> None:
    # gated_conv stands without a feed-forward and the others do not; a window of 32 covers the context
    space = space_with(
        rule, mixer=["pool", "sliding_window", "gated_conv"], window=windows, shared=["head_width", *shared],
        feed_forward=feed_forward, num_layers=2, conv_width=3, gates=2,
    )  # fmt: skip
    every = enumerate_space(space, 2_000)
    assert len(every) == space.size()
    assert all(space.contains(one) for one in every)
