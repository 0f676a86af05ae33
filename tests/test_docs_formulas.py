"""The cost formulas of docs/choices are those of the configs: each is read from its page and computed.

A formula is what a cell says up to its first comma or "or": `(2 + g) d^2 + (w + 1) d, g gates`. Symbols next
to each other multiply, ^ is a power.
"""

import math
import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import pytest

from space.activations import ActivationName, activation_params
from space.choice import FeedForwardChoice, MixerChoice, Surroundings
from space.feedforward import GluConfig, MlpConfig, MoeConfig, NestedConfig, NoFeedForwardConfig
from space.mixers import (
    AxialConfig,
    BlockLocalConfig,
    CosformerConfig,
    DctConfig,
    DftConfig,
    DynconvConfig,
    GatedConvConfig,
    GlaConfig,
    GluOnlyConfig,
    LinearEluConfig,
    Mamba2Config,
    MambaConfig,
    NormLinearConfig,
    PoolConfig,
    RetentionConfig,
    SlaConfig,
    SlidingWindowConfig,
    SoftmaxConfig,
    TokenGluConfig,
)
from space.norms import NORMS
from space.positions import POSITIONS
from space.quantization import NumberFormat, number_format

CHOICES = Path(__file__).parents[1] / "docs" / "choices"
D, H, HEAD = 64, 4, 16
WORD = re.compile(r"[A-Za-z]\w*|\d+\.?\d*|[-+*/^()]")


def there(context: int, *, causal: bool = True, position: str = "none") -> Surroundings:
    return Surroundings(
        d_model=D, context_length=context, num_layers=1, causal=causal, position=POSITIONS[position]()
    )


def value(formula: str, **symbols: float) -> float:
    """A formula as a page writes it.

    >>> value("(2 + g) d^2 + w d, g gates", g=1, d=4, w=3)
    60
    """
    first = re.split(r", | or |;", formula)[0]
    terms = WORD.findall(first)
    assert "".join(terms) == first.replace(" ", ""), f"'{first}' is no formula"
    spelled: list[str] = []
    for term in terms:
        is_value = term not in "+-*/^)"
        if spelled and is_value and spelled[-1] not in ("+", "-", "*", "/", "**", "("):
            spelled.append("*")
        spelled.append("**" if term == "^" else term)
    functions = {"floor": math.floor} if "floor" in terms else {}
    found: float = eval(
        " ".join(spelled).replace("floor *", "floor"), {"__builtins__": {}}, {**symbols, **functions}
    )
    return found


def rows(page: str, column: str) -> dict[str, str]:
    """First cell -> the cell of this column, of all tables of a page that have it."""
    found: dict[str, str] = {}
    header: list[str] = []
    for line in (CHOICES / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            header = []
        elif not header:
            header = cells
        elif column in header and set(cells[0]) != {"-"}:
            found.setdefault(cells[0].replace("`", ""), cells[header.index(column)])
    return found


def text(page: str) -> str:
    """A page with its lines joined."""
    return " ".join((CHOICES / page).read_text(encoding="utf-8").split())


@pytest.mark.parametrize(
    ("formula", "wanted"),
    [
        ("2 d W + 2 d G h", 48),
        ("n (n + 1) / 2", 6),
        ("24.5 d", 49),
        ("2 w n or more", 30),
        ("3 floor(w / 2) n", 18),
    ],
)
def test_a_formula_is_read_as_people_read_it(formula: str, wanted: float) -> None:
    assert value(formula, d=2, W=4, G=4, h=2, n=3, w=5) == wanted


# -- softmax attention -----------------------------------------------------------------------------------


ATTENTION: Mapping[str, Any] = {
    "softmax": SoftmaxConfig(num_heads=H, num_kv_heads=2),
    "sliding_window": SlidingWindowConfig(num_heads=H, num_kv_heads=2, window=16),
    "block_local": BlockLocalConfig(num_heads=H, num_kv_heads=2, window=16),
}


@pytest.mark.parametrize("kind", ATTENTION)
def test_attention_costs_what_its_tables_say(kind: str) -> None:
    n, w, at, mixer = 96, 16, there(96), ATTENTION[kind]
    computed, permitted = (
        value(rows("attention.md", f"pairs{column}")[kind], n=n, w=w)
        for column in (" scored, as computed", ", causal")
    )
    formulas = {
        name: formula.replace("(pairs as computed)", "P")
        .replace("(keys it reads)", "K")
        .replace("(kept tokens)", "K")
        for name, formula in rows("attention.md", "formula").items()
    }
    kept = n if kind == "softmax" else w
    symbols = {"d": D, "W": D, "G": 2, "h": HEAD, "n": n, "K": kept}
    assert mixer.params(at) == value(formulas["parameters"], **symbols)
    assert mixer.macs(at, n) == value(formulas["MACs, full"], P=computed, **symbols)
    assert mixer.macs_causal(at, n) == value(formulas["MACs, full"], P=permitted, **symbols)
    assert mixer.macs_decode(at, n - 1) == value(formulas["MACs, one more token"], **symbols)
    assert mixer.state_size(at, n) == value(formulas["state"], **symbols)


@pytest.mark.parametrize("form", ["sum", "shared"])
def test_axial_attention_costs_what_its_table_says(form: str) -> None:
    n, c, at = 96, 16, there(96)
    mixer = AxialConfig(num_heads=H, num_kv_heads=2, columns=c, form=form)
    ways = 2 if form == "sum" else 1
    assert mixer.params(at) == ways * value("2 d W + 2 d G h", d=D, W=D, G=2, h=HEAD)
    kept = rows("attention.md", f"`{form}`")["kept when decoding"].replace("min(C, n)", "C")
    assert mixer.state_size(at, n) == value(kept, G=2, H=H, h=HEAD, C=c, n=n)
    pairs = rows("attention.md", "`sum`")["pairs, causal"]
    permitted = value(pairs, n=n, C=c, R=n // c)
    assert mixer.macs_causal(at, n) == n * mixer.map_macs(at) + 2 * D * permitted


def test_options_of_attention_cost_what_their_table_says() -> None:
    at, plain = there(64), {"num_heads": H, "num_kv_heads": 2}
    bare = SoftmaxConfig(num_heads=H, num_kv_heads=2)
    cells = rows("attention.md", "parameters")
    for fields, formula in (
        ({"qk_norm": True}, cells["qk_norm"]),
        ({"gated_attention": "per_head"}, "H"),
        ({"gated_attention": "per_token"}, "H (h + 1)"),
        ({"gated_attention": "per_token_full"}, "d H + H"),
        ({"qkv_dconv": 3}, cells["qkv_dconv"]),
        ({"score": "wma"}, cells["score"].removeprefix("wma: ")),
    ):
        assert formula in text("attention.md")
        found = SoftmaxConfig.model_validate({**plain, **fields}).params(at) - bare.params(at)
        assert found == value(formula, d=D, H=H, h=HEAD, W=D, G=2, c=3), fields


# -- linear attention ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mixer", "m", "extra"),
    [
        (LinearEluConfig(num_heads=H), HEAD, 0),
        (CosformerConfig(num_heads=H), 2 * HEAD, 0),
        (NormLinearConfig(num_heads=H), HEAD, 0),
        (SlaConfig(num_heads=H, conv_width=5), HEAD, 5 * D),
    ],
    ids=["linear_elu", "cosformer", "norm_linear", "sla"],
)
@pytest.mark.parametrize(
    ("form", "n", "causal"), [("square", 48, True), ("state", 128, False), ("chunks", 128, True)]
)
def test_linear_attention_costs_the_sums_of_its_table(
    mixer: MixerChoice, m: int, extra: int, form: str, n: int, causal: bool
) -> None:
    """`extra`: the convolution of sla, per token; on one axis here."""
    at = there(n, causal=causal)
    sums = value(
        rows("linear_attention.md", "per sequence, features `m` wide")[form], n=n, H=H, m=m, h=HEAD, c=32
    )
    assert mixer.macs(at, n) == 4 * n * D**2 + sums + n * extra
    if causal:
        assert mixer.macs_decode(at, n - 1) == 4 * D**2 + value("2 H m h", H=H, m=m, h=HEAD) + extra
    assert "costs `2 H m h`" in text("linear_attention.md")


def test_states_of_linear_attention_are_those_of_the_page() -> None:
    at, page = there(128), text("linear_attention.md")
    for mixer, formula in (
        (LinearEluConfig(num_heads=H), "d (h + 1)"),
        (CosformerConfig(num_heads=H), "2 d (h + 1)"),
        (NormLinearConfig(num_heads=H), "d h"),
        (SlaConfig(num_heads=H, conv_width=5), "d (h + 1) + (w - 1) d"),
    ):
        assert mixer.state_size(at, 128) == value(formula, d=D, h=HEAD, w=5)
        assert f"tate {formula}" in page, formula
    assert LinearEluConfig(num_heads=H, feature_map="t2r").params(at) == value("4 d^2 + d h", d=D, h=HEAD)
    table = value("4 d^2 + N d + h (w + 1)", d=D, N=128, h=HEAD, w=5)
    assert SlaConfig(num_heads=H, conv_width=5).params(at) == table


# -- recurrent mixers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "mixer", "symbols"),
    [
        ("retention", RetentionConfig(num_heads=H, value_expansion=2), {"e": 2}),
        ("gla, vector", GlaConfig(num_heads=H, gate="vector"), {}),
        ("gla, scalar", GlaConfig(num_heads=H, gate="scalar"), {}),
        (
            "mamba",
            MambaConfig(expansion=2, state_width=8, conv_width=4),
            {"d_i": 128, "N": 8, "w": 4, "R": 4},
        ),
        (
            "mamba2",
            Mamba2Config(expansion=2, head_width=32, state_width=16, conv_width=4),
            {"d_i": 128, "N": 16, "w": 4},
        ),
    ],
    ids=["retention", "gla vector", "gla scalar", "mamba", "mamba2"],
)
def test_recurrent_mixers_cost_what_their_table_says(
    kind: str, mixer: MixerChoice, symbols: dict[str, float]
) -> None:
    """32 tokens are one square of every kind."""
    n, at = 32, there(32)
    heads = 128 // 32 if kind == "mamba2" else H
    known = {"d": D, "h": HEAD, "H": heads, "n": n, **symbols}

    def cell(column: str) -> float:
        return value(rows("recurrent.md", column)[kind], **known)

    assert mixer.params(at) == cell("parameters")
    outside = mixer.macs(at, n) - n * mixer.map_macs(at)
    assert outside == cell("MACs outside the maps, one pass, context within one square")
    assert mixer.macs_decode(at, n - 1) - mixer.map_macs(at) == cell("one decoding step")
    assert mixer.state_size(at, n) == cell("state, numbers")


# -- mixers without attention ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "mixer", "causal"),
    [
        ("pool", PoolConfig(width=5), True),
        ("gated_conv", GatedConvConfig(width=5, gates=2), True),
        ("dynconv", DynconvConfig(num_heads=H, width=5), True),
        ("glu_only", GluOnlyConfig(expansion=2), True),
        ("token_glu, both ways", TokenGluConfig(expansion=2.0), False),
        ("token_glu, causal", TokenGluConfig(expansion=1.0), True),
        ("dft", DftConfig(form="layer"), False),
        ("dct", DctConfig(form="layer"), False),
    ],
    ids=lambda kind: kind if isinstance(kind, str) else "",
)
def test_mixers_without_attention_cost_what_their_table_says(
    kind: str, mixer: MixerChoice, causal: bool
) -> None:
    n, at = 96, there(96, causal=causal)
    heads = {"dft": D, "dct": D}.get(kind, HEAD)
    known = {"d": D, "h": heads, "H": H, "n": n, "N": n, "w": 5, "g": 2, "e": 2}
    columns = {
        "parameters": mixer.params(at),
        "MACs, one pass": mixer.macs(at, n),
        "MACs, one decoding step": mixer.macs_decode(at, n - 1) if causal and mixer.decodable else None,
        "state, numbers": mixer.state_size(at, n) if causal and mixer.decodable else None,
    }
    for column, wanted in columns.items():
        cell = rows("attention_free.md", column)[kind]
        assert (cell in ("", "none")) if wanted is None else (value(cell, **known) == wanted), column


# -- feed-forwards, norms, positions, number formats -----------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("mlp", MlpConfig(d_ff=168)),
        ("mlp", MlpConfig(d_ff=168, num_hidden=3)),
        ("glu", GluConfig(d_ff=168)),
        ("moe", MoeConfig(d_ff=168, num_experts=4, top_k=2)),
        ("moe", MoeConfig(d_ff=168, num_experts=4, top_k=1, gated=True, activation="silu")),
        ("none", NoFeedForwardConfig()),
    ],
)
def test_feed_forwards_cost_what_their_table_says(kind: str, config: FeedForwardChoice) -> None:
    n, at = 100, there(100)
    one = value("3 d f" if getattr(config, "gated", False) else "2 d f", d=D, f=168)
    known = {"d": D, "f": 168, "n": n, "h": getattr(config, "num_hidden", 1), "FFN": one}
    known |= {"E": 4, "k": getattr(config, "top_k", 1)}
    params, macs = (rows("feed_forward.md", column)[kind] for column in ("parameters", "MACs"))
    assert config.params(at) == value(params, **known)
    assert config.macs(at, n) == (
        n * value(params, **known) if macs == "n times that" else value(macs, **known)
    )


def test_a_nested_feed_forward_computes_its_slice_and_counts_the_whole() -> None:
    at, config = there(100), NestedConfig(d_ff=160, granularity=4)
    assert config.params(at) == MlpConfig(d_ff=160).params(at)
    assert config.macs(at, 100) == MlpConfig(d_ff=40).macs(at, 100)


def test_norms_positions_and_activations_have_the_parameters_of_their_tables() -> None:
    at = there(96)
    softmax = (SoftmaxConfig(num_heads=H, num_kv_heads=H),)
    for kind in NORMS.keys() & rows("norms.md", "parameters").keys():
        assert NORMS[kind]().params(D) == value(rows("norms.md", "parameters")[kind], d=D), kind
    for kind in POSITIONS.keys() & rows("positions.md", "parameters").keys():
        cell = rows("positions.md", "parameters")[kind].partition(" for ")[0]
        assert POSITIONS[kind]().params(at, softmax) == value(cell, N=96, d=D, H=H), kind
    for name in get_args(ActivationName):
        assert activation_params(name) == value(rows("feed_forward.md", "parameters")[name]), name


def test_number_formats_have_the_bits_of_their_table() -> None:
    cells = rows("number_formats.md", "bits per weight")
    for name in get_args(NumberFormat):
        form, cell = number_format(name), cells[name]
        stated = re.findall(r"([\d.]+) at (\d+)", cell)
        for bits, inputs in stated:
            assert form.bits_per_weight(int(inputs)) == Fraction(bits), name
        if not stated:
            assert form.bits_per_weight(64) == value(cell, inputs=64), name
