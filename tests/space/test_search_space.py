"""Presets, domains, interfaces: what may be said, and what is refused with the way out."""

import pytest

from space.architecture import BytesInterface, ImageInterface, InterfaceConfig, ValuesInterface
from space.errors import InvalidInputError
from space.sampling import enumerate_space
from space.search_space import SearchSpace, load_preset, preset_names

TEXT = BytesInterface(context_length=64, outputs=256)
IMAGE = ImageInterface(height=8, width=8, patch_size=2, outputs=10)
INTERFACES: dict[str, InterfaceConfig] = {"decoder": TEXT, "encoder": TEXT, "vision": IMAGE}


@pytest.mark.slow
@pytest.mark.parametrize("name", preset_names())
def test_every_preset_builds_a_model_of_its_task(name: str) -> None:
    preset = load_preset(name)
    space = preset.for_interface(INTERFACES[preset.model])
    architecture = space.decode({})
    assert architecture.model == space.model
    assert space.contains(architecture)
    assert space.size() > 1000


def test_there_are_three_small_presets_within_their_stated_sizes() -> None:
    for name in ("decoder-small", "encoder-small", "vision-small"):
        domains = load_preset(name).domains
        assert (min(domains.num_layers), max(domains.num_layers)) == (1, 4)
        assert (min(domains.d_model), max(domains.d_model)) == (32, 128)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(
        InvalidInputError, match="unknown preset 'decoder-smal'; did you mean 'decoder-small'"
    ):
        load_preset("decoder-smal")


def test_domains_are_narrowed_and_widened() -> None:
    space = load_preset("decoder-small").with_domains(
        {"d_model": [32, 64, 256], "mixer": "pool", "ff_ratio": 2}
    )
    assert space.domains.d_model == (32, 64, 256)
    assert space.domains.mixer == ("pool",)
    assert space.domains.of("ff_ratio") == (2.0,)
    assert space.domains.of("activation") == load_preset("decoder-small").domains.of("activation")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixr": ["pool"]}, "unknown gene 'mixr'; did you mean 'mixer'"),
        ({"mixer": ["sofmax"]}, "unknown value 'sofmax'; did you mean 'softmax'"),
        ({"activation": "gellu"}, "unknown value 'gellu'; did you mean 'gelu'"),
        ({"number_format": ["int8"]}, "unknown value 'int8'"),
        ({"d_model": [50]}, r"gene 'd_model': .*multiple of 8 \(got 50\)"),
        ({"d_model": [True]}, "a number is wanted"),
        ({"d_model": "wide"}, "gene 'd_model': .*integer"),
        ({"num_layers": [0]}, r"greater than or equal to 1 \(got 0\)"),
        ({"pool_width": 4}, "4 is even"),
        ({"mixer": []}, "at least 1 item"),
        ({"mixer": {"kind": "pool"}}, "gene 'mixer'"),
        ({"patch_size": [2]}, "'patch_size' belongs to 'vision' models"),
        ({"shared": ["norms"]}, "shared: unknown layer gene 'norms'; did you mean 'norm'"),
        ({"shared": 3}, "shared: 3 is not a list"),
    ],
)
def test_wrong_domains_are_refused_with_the_nearest_name(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        load_preset("decoder-small").with_domains(changes)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(InvalidInputError) as caught:
        load_preset("decoder-small").with_domains({"mixr": 1, "norm": "batchnorm"})
    assert len(caught.value.message.splitlines()) == 2


def test_an_interface_of_another_model_kind_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="takes input bytes, the task has 'image'"):
        load_preset("decoder-small").for_interface(IMAGE)
    values = ValuesInterface(channels=3, context_length=40, outputs=4)
    assert load_preset("encoder-small").for_interface(values).decode({}).interface == values


def test_without_an_interface_nothing_is_decoded() -> None:
    with pytest.raises(InvalidInputError, match="no interface yet"):
        load_preset("decoder-small").decode({})


@pytest.mark.parametrize(
    ("size", "own", "expected"),
    [(8, 2, (2, 4)), (28, 7, (7, 2, 4, 14)), (13, 13, (13,)), (64, 16, (16, 2, 4, 8))],
)
def test_patch_sizes_fit_the_image_the_tasks_own_first(
    size: int, own: int, expected: tuple[int, ...]
) -> None:
    image = ImageInterface(height=size, width=size, patch_size=own, outputs=10)
    space = load_preset("vision-small").for_interface(image)
    assert space.domains.patch_size == expected
    assert space.decode({}).interface == image


def test_patch_sizes_that_one_image_drops_come_back_for_another() -> None:
    def image(size: int, own: int) -> ImageInterface:
        return ImageInterface(height=size, width=size, patch_size=own, outputs=10)

    preset = load_preset("vision-small")
    space = preset.for_interface(image(8, 2)).for_interface(image(28, 7))
    assert space == preset.for_interface(image(28, 7))
    narrowed = preset.for_interface(image(8, 2)).with_domains({"patch_size": [4]})
    assert narrowed.for_interface(image(64, 16)).domains.patch_size == (4,)


def test_a_patch_size_set_by_hand_must_divide_the_image() -> None:
    space = load_preset("vision-small").with_domains({"patch_size": [3]})
    with pytest.raises(InvalidInputError, match="3 does not divide the image 8x8; valid: 1, 2, 4, 8"):
        space.for_interface(IMAGE)


def test_unreal_number_formats_leave_with_a_warning() -> None:
    space, warnings = load_preset("decoder-small").without_formats({"bf16"}, "onnxruntime")
    assert space.domains.number_format == ("fp32", "int8_dynamic")
    assert warnings == ("number format 'bf16' does not run on onnxruntime: left out of the space",)
    with pytest.raises(InvalidInputError, match="bf16 do not run on onnxruntime; add fp32"):
        load_preset("decoder-small").with_domains({"number_format": "bf16"}).without_formats(
            {"bf16"}, "onnxruntime"
        )


def test_a_bidirectional_space_that_cannot_see_order_is_refused() -> None:
    blind = {"position": "none", "mixer": ["softmax", "linear_elu"]}
    with pytest.raises(
        InvalidInputError, match="blind to order; add position 'learned' or mixer 'gated_conv'"
    ):
        load_preset("encoder-small").with_domains(blind).for_interface(TEXT)


def test_sla_has_no_table_where_tokens_carry_positions_and_the_space_counts_so() -> None:
    one = {
        "num_layers": 1, "d_model": 64, "mixer": "sla", "position": ["learned", "rope"], "norm": "rmsnorm",
        "residual": "serial", "feed_forward": "mlp", "activation": "relu", "ff_ratio": 4,
        "number_format": "fp32", "head_width": 16,
    }  # fmt: skip
    space = load_preset("decoder-small").with_domains(one).for_interface(TEXT)
    tables = {}
    for position in ("learned", "rope"):
        architecture = space.decode({"position": position})
        mixer = architecture.layers[0].mixer.model_dump()
        tables[architecture.position.kind] = mixer.get("position_table", True)
        assert space.contains(architecture)
    assert tables == {"learned": False, "none": True}
    assert space.size() == len(enumerate_space(space, 100)) == 2


def test_a_space_survives_json_and_is_a_value() -> None:
    space = load_preset("decoder-small").for_interface(TEXT)
    again = SearchSpace.model_validate_json(space.model_dump_json())
    assert again == space
    assert hash(again) == hash(space)


def test_genes_are_named_by_layer_unless_shared() -> None:
    space = load_preset("decoder-small").with_domains({"num_layers": [1, 2], "shared": ["norm", "mixer"]})
    names = [gene.name for gene in space.genes()]
    assert len(set(names)) == len(names)
    assert {"num_layers", "d_model", "position", "tied", "norm", "mixer", "layer1.window"} <= set(names)
    assert not {"patch_size", "layer0.norm", "layer0.mixer", "layer2.window"} & set(names)
    assert all(list(gene.options) == sorted(gene.options) for gene in space.genes() if gene.key == "d_model")
    kv_heads = next(gene for gene in space.genes() if gene.key == "kv_heads")
    assert kv_heads.options == ("one", "half", "full")
