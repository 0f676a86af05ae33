"""The reference family is what the report compares with: ordinary, strong, spread over sizes."""

import pytest

from space.architecture import (
    BytesInterface,
    ImageInterface,
    InterfaceConfig,
    check_architecture,
    parse_architecture,
)
from space.errors import InvalidInputError
from space.reference_family import diagonal, reference_family
from space.search_space import SearchSpace, load_preset

INTERFACES: dict[str, InterfaceConfig] = {
    "decoder-small": BytesInterface(context_length=128, outputs=256),
    "encoder-small": BytesInterface(context_length=128, outputs=4),
    "vision-small": ImageInterface(height=28, width=28, patch_size=7, outputs=10),
}


def _space(name: str) -> SearchSpace:
    return load_preset(name).for_interface(INTERFACES[name])


@pytest.mark.parametrize("name", INTERFACES)
@pytest.mark.parametrize("sizes", [1, 2, 4, 6])
def test_two_families_times_sizes_times_formats(name: str, sizes: int) -> None:
    references = reference_family(_space(name), sizes)
    assert len(references) == 2 * sizes * 2
    assert len({reference.name for reference in references}) == len(references)
    assert len({reference.architecture.id for reference in references}) == len(references)
    assert len({reference.architecture.training_id for reference in references}) == 2 * sizes
    for reference in references:
        check_architecture(reference.architecture)
        assert parse_architecture(reference.architecture.canonical_json).id == reference.architecture.id
        assert reference.architecture.number_formats == {reference.number_format}
        assert len(set(reference.architecture.layers)) == 1


@pytest.mark.parametrize("name", INTERFACES)
def test_the_smallest_and_largest_size_are_there(name: str) -> None:
    shapes = [(len(r.architecture.layers), r.architecture.d_model) for r in reference_family(_space(name), 4)]
    assert shapes[0] == (1, 32)
    assert shapes[-1] == (4, 128)


def test_the_language_references_are_written_as_published() -> None:
    space = _space("decoder-small").with_domains({"num_layers": 4, "d_model": 64})
    gpt, llama = (r.architecture for r in reference_family(space, 1, formats=["fp32"]))
    for architecture in (gpt, llama):
        layer = architecture.layers[0]
        assert layer.mixer.model_dump() == {"kind": "softmax", "num_heads": 4, "num_kv_heads": 4}
        assert (architecture.position.kind, layer.placement, layer.residual) == ("rope", "pre", "serial")
    assert gpt.layers[0].feed_forward.model_dump() == {"kind": "mlp", "activation": "gelu", "d_ff": 256}
    assert gpt.final_norm.kind == gpt.layers[0].norm.kind == "layernorm"
    assert llama.layers[0].feed_forward.model_dump() == {"kind": "glu", "activation": "silu", "d_ff": 168}
    assert llama.final_norm.kind == llama.layers[0].norm.kind == "rmsnorm"


def test_image_references_have_learned_positions_and_the_tasks_patches() -> None:
    references = reference_family(_space("vision-small"), 2)
    assert {reference.family for reference in references} == {"vit-like", "llama-like"}
    for reference in references:
        assert reference.architecture.position.kind == "learned"
        assert reference.architecture.interface == INTERFACES["vision-small"]


def test_encoder_references_are_bidirectional() -> None:
    assert not any(r.architecture.is_causal for r in reference_family(_space("encoder-small"), 1))


def test_only_real_formats_are_built() -> None:
    names = [r.name for r in reference_family(_space("decoder-small"), 1, formats=["fp32"])]
    assert names == ["gpt-like 3x64 fp32", "llama-like 3x64 fp32"]


def test_a_space_with_few_sizes_has_few_references() -> None:
    space = _space("decoder-small").with_domains({"num_layers": [1, 2], "d_model": 32})
    assert len(reference_family(space, 6, formats=["fp32"])) == 2 * 2
    assert diagonal([3], [32, 64], 6) == [(3, 32), (3, 64)]


def test_the_task_must_be_known() -> None:
    with pytest.raises(InvalidInputError, match="no interface yet"):
        reference_family(load_preset("decoder-small"), 2)
