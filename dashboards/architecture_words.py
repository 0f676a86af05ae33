"""An architecture in words, from its JSON alone: a kind or a field that is new is said by its own name."""

from collections.abc import Mapping
from typing import Any

from .wording import MIXER_WORDS, NORM_WORDS, POSITION_WORDS, feed_forward, format_word

SAID = frozenset({"mixer", "feed_forward", "norm", "placement", "residual", "number_format"})
"""Fields of a layer that `layer_words` says in its own way."""


def in_words(architecture: Mapping[str, Any]) -> str:
    """Every layer in words: the text twin of the drawing."""
    position = str(architecture["position"]["kind"])
    layers = [
        f"layer {index}: {layer_words(layer)}" for index, layer in enumerate(architecture["layers"], start=1)
    ]
    model = f"{architecture['model']}, {POSITION_WORDS.get(position, position)}"
    return "; ".join([model, *model_remarks(architecture), *layers])


def layer_words(layer: Mapping[str, Any]) -> str:
    """One layer: mixer with its sizes, feed-forward, norm, number format, whatever else it says."""
    norm = str(layer["norm"]["kind"])
    mixer = str(layer["mixer"]["kind"])
    sizes = mixer_sizes(layer["mixer"])
    words = [
        f"{MIXER_WORDS.get(mixer, mixer.replace('_', ' '))}{f' ({sizes})' if sizes else ''}",
        feed_forward(layer.get("feed_forward") or {}),
        f"{layer.get('placement', 'pre')}-{NORM_WORDS.get(norm, norm)}",
        str(layer.get("residual", "serial")),
        format_word(str(layer.get("number_format", "fp32"))),
        *layer_remarks(layer),
    ]
    return ", ".join(words)


def part_words(name: str, value: object) -> str:
    """One choice of a layer or of the model, as the drawing says it.

    >>> part_words("mixer", {"kind": "pool", "width": 5}), part_words("number_format", "int8_dynamic")
    ('pooling, width 5', 'int8')
    """
    if name == "number_format":
        return format_word(str(value))
    if not isinstance(value, Mapping) or "kind" not in value:
        return value_words(value)
    kind = str(value["kind"])
    if name == "mixer":
        sizes = mixer_sizes(value)
        return f"{MIXER_WORDS.get(kind, value_words(kind))}{f', {sizes}' if sizes else ''}"
    words = {"norm": NORM_WORDS, "final_norm": NORM_WORDS, "position": POSITION_WORDS}.get(name, {})
    said = value_words(value)
    return said.replace(value_words(kind), words[kind], 1) if kind in words else said


def mixer_sizes(mixer: Mapping[str, Any]) -> str:
    """
    >>> mixer_sizes({"kind": "sliding_window", "num_heads": 4, "num_kv_heads": 2, "window": 32})
    '4 heads, 2 for keys and values, window 32'
    """
    words = []
    heads = mixer.get("num_heads")
    if heads is not None:
        words.append(f"{heads} head{'s' if heads != 1 else ''}")
    if mixer.get("num_kv_heads", heads) != heads:
        words.append(f"{mixer['num_kv_heads']} for keys and values")
    return ", ".join([*words, *fields(mixer, but=("kind", "num_heads", "num_kv_heads"))])


def feed_forward_sizes(config: Mapping[str, Any]) -> str:
    """What the few words of a feed-forward leave out.

    >>> feed_forward_sizes({"kind": "glu", "activation": "silu", "d_ff": 168})
    'gated feed-forward, 168 wide'
    >>> feed_forward_sizes({"kind": "moe", "num_experts": 4, "expert": {"kind": "mlp", "d_ff": 64}})
    'feed-forward, num experts 4, expert MLP 64'
    """
    words = ["gated feed-forward" if config.get("kind") == "glu" else "feed-forward"]
    if "d_ff" in config:
        words.append(f"{value_words(config['d_ff'])} wide")
    return ", ".join([*words, *fields(config, but=("kind", "activation", "d_ff"))])


def model_remarks(architecture: Mapping[str, Any]) -> list[str]:
    """Choices of the whole model that are not the ordinary ones: sharing, projection, what is new."""
    ordinary = {"sharing": "none", "projection": "dense"}
    said = {
        "version", "model", "interface", "d_model", "position", "layers", "final_norm", "head", *ordinary,
    }  # fmt: skip
    words = [
        f"{name}: {value_words(architecture[name])}"
        for name, kind in ordinary.items()
        if isinstance(architecture.get(name), Mapping) and architecture[name].get("kind") != kind
    ]
    return [*words, *fields(architecture, but=tuple(said))]


def layer_remarks(layer: Mapping[str, Any]) -> list[str]:
    """Fields of a layer beside the known ones."""
    return fields(layer, but=tuple(SAID))


def fields(config: Mapping[str, Any], *, but: tuple[str, ...]) -> list[str]:
    """`name value` of the other fields; empty ones are left out."""
    return [
        f"{name.replace('_', ' ')} {value_words(value)}"
        for name, value in config.items()
        if name not in but and value not in (None, "", {}, [])
    ]


def value_words(value: object) -> str:
    """
    >>> value_words(True), value_words([1, 2]), value_words({"kind": "cyclic", "groups": 2})
    ('yes', '1/2', 'cyclic, groups 2')
    >>> value_words({"kind": "mlp", "activation": "gelu", "d_ff": 64})
    'MLP GELU 64'
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        if "d_ff" in value and "kind" in value:
            return feed_forward(value)
        kind = [str(value["kind"]).replace("_", " ")] if "kind" in value else []
        return ", ".join([*kind, *fields(value, but=("kind",))])
    if isinstance(value, (list, tuple)):
        return "/".join(value_words(item) for item in value)
    return str(value).replace("_", " ")
