"""Presets count what their sources count: parameters of published architectures, to the last one."""

import pytest

from space.architecture import BytesInterface
from space.costs import costs
from space.gene import Value
from space.search_space import load_preset

INTERFACE = BytesInterface(vocab_size=50_254, context_length=1024, outputs=50_254)
HEADS = {"s": (4, 8, 12), "m": (8, 12, 16), "l": (8, 16, 20)}


# rows of the raw measurements of HW-GPT-Bench (Sukthanker et al. 2024), without biases: one digit per layer
@pytest.mark.parametrize(
    ("size", "width", "heads", "ratios", "params"),
    [
        ("s", 768, "0220022102", "2244333442", 148_591_104),
        ("s", 192, "2122011020", "4323232442", 26_641_536),
        ("m", 1024, "001021212002221010121110", "424332442433342232433234", 407_107_584),
        ("m", 256, "211222020201110200210221", "424423324333433422424333", 59_964_928),
        ("l", 320, "1121020121012012221121210102022221", "2423432233333334432323243232433434", 107_798_400),
    ],
)
def test_hwgpt_has_the_published_number_of_parameters(
    size: str, width: int, heads: str, ratios: str, params: int
) -> None:
    space = load_preset(f"hwgpt-{size}").for_interface(INTERFACE)
    genotype: dict[str, Value] = {"num_layers": len(heads), "d_model": width}
    for layer, (head, ratio) in enumerate(zip(heads, ratios, strict=True)):
        genotype[f"layer{layer}.heads"] = HEADS[size][int(head)]
        genotype[f"layer{layer}.ff_ratio"] = 1.5 * int(ratio)
    architecture = space.decode(genotype)
    assert costs(architecture).params == params
    assert space.contains(architecture)


def test_hwgpt_m_tells_all_its_numbers_of_heads_apart() -> None:
    space = load_preset("hwgpt-m").for_interface(INTERFACE)
    ids = {space.decode({"d_model": 256, "layer0.heads": heads}).id for heads in HEADS["m"]}
    assert len(ids) == 3
