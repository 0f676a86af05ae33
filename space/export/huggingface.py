"""The files that make a model folder one of Hugging Face transformers: `AutoModelFor...` loads it.

    config.json                        kind, sizes, and which classes to take (auto_map)
    configuration_paretoformer.py      the config's class
    modeling_paretoformer.py           the generated model of `model.py` as a PreTrainedModel
    tokenizer.json, tokenizer_config.json      of byte models: one token per byte, its id the byte

They are in float32, whatever number formats the architecture has. Code of the folder runs when it is loaded,
so transformers wants `trust_remote_code=True`. Nothing of this project is imported.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..architecture import Architecture
from .step import has_step

CONFIG = "config.json"
CONFIGURATION = "configuration_paretoformer.py"
MODELING = "modeling_paretoformer.py"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def auto_class(architecture: Architecture) -> str:
    """The `Auto...` class that loads such a model."""
    if architecture.head.kind == "language":
        return "AutoModelForCausalLM"
    if architecture.interface.input == "image":
        return "AutoModelForImageClassification"
    return "AutoModelForSequenceClassification"


def input_argument(architecture: Architecture) -> str:
    """The name of the input of the loaded model."""
    return {"bytes": "input_ids", "values": "values", "image": "pixel_values"}[architecture.interface.input]


def write_huggingface(
    architecture: Architecture, folder: Path, *, classes: Sequence[str] = ()
) -> tuple[str, ...]:
    """Writes the files beside `model.py` and `model.safetensors`; returns their names."""
    config = _config(architecture, classes)
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / CONFIGURATION).write_text(CONFIGURATION_TEXT, encoding="utf-8")
    (folder / MODELING).write_text(_modeling(architecture), encoding="utf-8")
    names = (CONFIG, CONFIGURATION, MODELING)
    if architecture.interface.input != "bytes" or architecture.interface.vocab_size != 256:
        return names
    for name, data in zip(TOKENIZER, (_tokenizer(), TOKENIZER_CONFIG), strict=True):
        text = json.dumps(
            {**data, **({"model_max_length": architecture.tokens} if name != TOKENIZER[0] else {})}
        )
        (folder / name).write_text(text + "\n", encoding="utf-8")
    return (*names, *TOKENIZER)


def _config(architecture: Architecture, classes: Sequence[str]) -> dict[str, Any]:
    name = _class_name(architecture)
    labels = list(classes) if len(classes) == architecture.interface.outputs else []
    sizes: dict[str, Any] = {
        "hidden_size": architecture.d_model,
        "num_hidden_layers": len(architecture.layers),
        "max_position_embeddings": architecture.tokens,
    }
    if architecture.interface.input == "bytes":
        sizes["vocab_size"] = architecture.interface.vocab_size
    if architecture.head.kind == "language":
        sizes |= {"use_cache": has_step(architecture), "is_decoder": True}
    else:
        labels = labels or [f"class {index}" for index in range(architecture.interface.outputs)]
        sizes["id2label"] = {str(index): str(label) for index, label in enumerate(labels)}
        sizes["label2id"] = {str(label): index for index, label in enumerate(labels)}
    return {
        "model_type": "paretoformer",
        "architectures": [name],
        "architecture_id": architecture.id,
        "dtype": "float32",
        "tie_word_embeddings": False,
        "auto_map": {
            "AutoConfig": f"{CONFIGURATION.removesuffix('.py')}.ParetoformerConfig",
            "AutoModel": f"{MODELING.removesuffix('.py')}.{name}",
            auto_class(architecture): f"{MODELING.removesuffix('.py')}.{name}",
        },
        **sizes,
    }


def _class_name(architecture: Architecture) -> str:
    return "Paretoformer" + auto_class(architecture).removeprefix("AutoModel")


CONFIGURATION_TEXT = '''"""Sizes of the model in `model.py`; its layers stand there."""

from transformers import PretrainedConfig


class ParetoformerConfig(PretrainedConfig):
    """One generated architecture; `architecture_id` names it."""

    model_type = "paretoformer"
'''


def _modeling(architecture: Architecture) -> str:
    is_language, is_image = architecture.head.kind == "language", architecture.interface.input == "image"
    keeps_state = has_step(architecture)
    classifier = "ImageClassifierOutput" if is_image else "SequenceClassifierOutput"
    base = "CausalLMOutput" if is_language else classifier
    words = {
        "name": _class_name(architecture),
        "input": input_argument(architecture),
        "imported_output": base,
        "output": "Continued" if keeps_state else base,
        "base": "PreTrainedModel, GenerationMixin" if is_language else "PreTrainedModel",
        "imported": "GenerationMixin, PreTrainedModel" if is_language else "PreTrainedModel",
        "dataclass": "from dataclasses import dataclass\n\n" if keeps_state else "",
        "state": STATE if keeps_state else "",
        # transformers' drafts of several tokens would need to go back
        "stateful": "    _is_stateful = True\n" if keeps_state else "",
    }
    text = MODELING_HEAD.format(**words)
    if keeps_state:
        return text + STATE_FORWARD + LANGUAGE_LOSS + STATE_GENERATION + TIED
    text += FORWARD.format(**words) if is_image else FORWARD_MASKED.format(**words)
    text += LANGUAGE_LOSS if is_language else CLASSIFIER_LOSS
    text += f"        return {base}(loss=loss, logits=logits)\n"
    return text + (GENERATION if is_language else "") + TIED


MODELING_HEAD = '''"""The model of `model.py` for transformers, in float32."""

from __future__ import annotations

{dataclass}import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import {imported}
from transformers.modeling_outputs import {imported_output}

from .configuration_paretoformer import ParetoformerConfig
from .model import Model

{state}
class {name}({base}):
    """The generated model under the names that transformers gives to things."""

    config_class = ParetoformerConfig
    base_model_prefix = "model"
    main_input_name = "{input}"
{stateful}
    def __init__(self, config: ParetoformerConfig) -> None:
        super().__init__(config)
        self.model = Model()
        self._tied_weights_keys = tied_weights(self)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Constants are computed anew, since loading leaves them empty; weights come from the file."""
        names = module._non_persistent_buffers_set
        if not names:
            return
        path = next(path for path, inner in self.model.named_modules() if inner is module)
        if "_constants" not in self.__dict__:
            with torch.device("cpu"):
                self.__dict__["_constants"] = Model()
        fresh = self.__dict__["_constants"].get_submodule(path)
        for name in names:
            value = getattr(fresh, name)
            setattr(module, name, None if value is None else value.to(getattr(module, name).device))

'''

FORWARD_MASKED = '''    def forward(
        self,
        {input}: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **_: object,
    ) -> {output}:
        """`attention_mask` [batch, length] is 1 at real tokens."""
        is_padded = attention_mask is not None and not bool(attention_mask.all())
        logits = self.model({input}, attention_mask.bool() if is_padded else None)
'''

FORWARD = '''    def forward(
        self, {input}: Tensor, labels: Tensor | None = None, **_: object
    ) -> {output}:
        """`pixel_values` [batch, channels, height, width]."""
        logits = self.model({input})
'''

LANGUAGE_LOSS = """        loss = None
        if labels is not None:
            ahead, behind = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
            loss = functional.cross_entropy(ahead, behind, ignore_index=-100)
"""

CLASSIFIER_LOSS = """        loss = None if labels is None else functional.cross_entropy(logits, labels)
"""

GENERATION = '''
    def prepare_inputs_for_generation(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: object
    ) -> dict[str, Tensor | None]:
        """All tokens in every step: some layer keeps no state."""
        return {"input_ids": input_ids, "attention_mask": attention_mask}
'''

STATE = '''
@dataclass
class DecodingState:
    """What every layer keeps of the tokens so far, and how many those are."""

    layers: list[dict[str, Tensor]]
    tokens: int


@dataclass
class Continued(CausalLMOutput):
    """`state`: what the next token needs of those before it, where it was asked for."""

    state: DecodingState | None = None

'''

STATE_FORWARD = '''    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        state: DecodingState | None = None,
        use_cache: bool = False,
        **_: object,
    ) -> Continued:
        """`attention_mask` [batch, length] is 1 at real tokens. With `state` the last of `input_ids` comes
        behind its tokens; `use_cache` asks for the state, which sequences with padding do not have."""
        if state is not None:
            logits, state = self._next(input_ids[:, -1], state)
        elif attention_mask is not None and not bool(attention_mask.all()):
            logits = self.model(input_ids, attention_mask.bool())
        elif use_cache and input_ids.shape[1] <= self.model.context_length:
            logits, layers = self.model.prefill(input_ids)
            state = DecodingState(layers, input_ids.shape[1])
        else:
            logits = self.model(input_ids)
'''

STATE_GENERATION = '''        return Continued(loss=loss, logits=logits, state=state)

    def _next(self, token: Tensor, state: DecodingState) -> tuple[Tensor, DecodingState]:
        """Logits [batch, 1, outputs] behind one more token [batch]."""
        if state.tokens >= self.model.context_length:
            raise ValueError(f"the context of {self.model.context_length} tokens is full")
        position = torch.tensor(state.tokens, device=token.device)
        logits, layers = self.model.step(token, state.layers, position)
        return logits[:, None], DecodingState(layers, state.tokens + 1)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        state: DecodingState | None = None,
        use_cache: bool = True,
        **_: object,
    ) -> dict[str, object]:
        """The last token with the state of those before it, or all tokens where there is none."""
        if state is not None:
            return {"input_ids": input_ids[:, -1:], "state": state}
        return {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": use_cache}

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """transformers makes no cache of its own: layers keep more than keys and values."""
        return False

    @staticmethod
    def _reorder_cache(state: DecodingState, beam_idx: Tensor) -> DecodingState:
        """The state of the beams that go on."""
        layers = [{name: kept[beam_idx] for name, kept in layer.items()} for layer in state.layers]
        return DecodingState(layers, state.tokens)
'''

TIED = '''

def tied_weights(model: nn.Module) -> dict[str, str]:
    """Names of weights that several layers share -> the name under which the file has them."""
    first: dict[int, str] = {}
    tied: dict[str, str] = {}
    for name, weight in sorted(model.named_parameters(remove_duplicate=False)):
        if id(weight) in first:
            tied[name] = first[id(weight)]
        else:
            first[id(weight)] = name
    return tied
'''

TOKENIZER_CONFIG: Mapping[str, Any] = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "clean_up_tokenization_spaces": False,
}


def _tokenizer() -> dict[str, Any]:
    """Every byte of UTF-8 is a token whose id is the byte."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {letter: byte for byte, letter in enumerate(_letters())},
            "merges": [],
        },
    }


def _letters() -> list[str]:
    """The letter that stands for each byte in byte-level tokenizers: itself where it is printable, else one
    of the letters from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
