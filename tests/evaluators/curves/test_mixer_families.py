from evaluators.curves import mixer_family
from evaluators.curves.mixer_families import FAMILIES
from space.architecture import Architecture, BytesInterface
from space.search_space import load_preset


def _stack(*mixers: str) -> Architecture:
    space = load_preset("decoder-small").with_domains(
        {"num_layers": [len(mixers)], "mixer": sorted(set(mixers))}
    )
    space = space.for_interface(BytesInterface(context_length=64, outputs=256))
    return space.decode({f"layer{layer}.mixer": mixer for layer, mixer in enumerate(mixers)})


def test_mixers_are_told_apart_by_what_they_declare() -> None:
    found = {
        name: mixer_family(_stack(name, name)) for name in ("softmax", "gated_conv", "linear_elu", "pool")
    }
    assert found == {"softmax": "attention", "gated_conv": "local", "linear_elu": "state", "pool": "local"}


def test_layers_of_several_families_are_mixed() -> None:
    assert mixer_family(_stack("gated_conv", "softmax")) == "mixed"
    assert mixer_family(_stack("gated_conv", "pool")) == "local"
    assert "mixed" in FAMILIES
