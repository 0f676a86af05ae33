"""Python that uses an exported folder, as the model card prints it; each runs in the folder as it stands."""

from collections.abc import Sequence

from ..architecture import Architecture, BytesInterface
from .huggingface import MODELING, TOKENIZER, auto_class, input_argument
from .onnx import input_name, input_shape
from .python_files import CODE, DEPLOYED, DEPLOYED_WEIGHTS
from .torch_export import PROGRAM

PROMPT = "def main"
NEW_TOKENS = 8


def torch_part(architecture: Architecture, files: Sequence[str]) -> str:
    """How `model.py` and its weights are used."""
    code = f"""import torch
from model import load
model = load()
{_torch_input(architecture)}
logits = model(inputs)
print(logits.shape, logits.argmax(-1).ravel()[-1].item())"""
    words = f"`{CODE}` needs `pip install torch safetensors`; it holds the whole model and nothing else:"
    parts = [f"## PyTorch\n\n{words}", _fenced(code)]
    if _generates(architecture):
        parts += ["It continues text byte by byte, keeping a state:", _fenced(_generation())]
    if DEPLOYED in files:
        parts.append(
            f"That is the trained form, in float32. `{DEPLOYED}` with `{DEPLOYED_WEIGHTS}` is the form that "
            "was evaluated, in its number formats: `from deployed import load`."
        )
    return "\n\n".join(parts)


def code_part(files: Sequence[str]) -> str:
    """How `model.py` is used where no weights are."""
    code = """from model import Model
model = Model().eval()
print(sum(weight.numel() for weight in model.parameters()))"""
    also = f" `{DEPLOYED}` is the same in its number formats." if DEPLOYED in files else ""
    return "\n\n".join(
        [
            f"## Code\n\n`{CODE}` is the model without weights; it needs "
            f"`pip install torch safetensors`.{also}",
            _fenced(code),
        ]
    )


def program_part(architecture: Architecture) -> str:
    """How the torch.export program is used."""
    code = f"""import torch
model = torch.export.load("{PROGRAM}").module()
{_torch_input(architecture)}
logits = model(inputs)
print(logits.shape, logits.argmax(-1).ravel()[-1].item())"""
    words = f"`{PROGRAM}` needs `pip install torch`, of the version in export_report.json or later:"
    return f"## torch.export\n\n{words}\n\n{_fenced(code)}"


def huggingface_part(architecture: Architecture, files: Sequence[str]) -> str:
    """How the folder is used by transformers."""
    name, argument = auto_class(architecture), input_argument(architecture)
    load = f'model = {name}.from_pretrained(".", trust_remote_code=True)'
    words = (
        "The folder needs `pip install transformers torch`. Its own code runs when it is loaded, so "
        f"transformers asks for `trust_remote_code=True`; read `{CODE}` and `{MODELING}` first. "
        "It computes in float32:"
    )
    if TOKENIZER[0] in files and _is_text(architecture):
        code = f"""from transformers import {name}, AutoTokenizer
{load}
tokenizer = AutoTokenizer.from_pretrained(".", trust_remote_code=True)
inputs = tokenizer("{PROMPT}", return_tensors="pt")"""
        code += (
            f"""
tokens = model.generate(**inputs, max_new_tokens={NEW_TOKENS}, do_sample=False)
print(tokenizer.decode(tokens[0]))"""
            if _generates(architecture)
            else f"\nlogits = model(**inputs).logits\nprint(logits.shape{_label(architecture)})"
        )
        words = words.replace("It computes", "The tokenizer has one token per byte of UTF-8. It computes")
    else:
        code = f"""import torch
from transformers import {name}
{load}
{_torch_input(architecture)}
logits = model({argument}=inputs).logits
print(logits.shape{_label(architecture)})"""
    return f"## Hugging Face transformers\n\n{words}\n\n{_fenced(code)}"


def _label(architecture: Architecture) -> str:
    """The name of the likeliest class, behind the shape that is printed."""
    is_classifier = architecture.head.kind == "classification"
    return ", model.config.id2label[logits[0].argmax().item()]" if is_classifier else ""


def onnx_part(architecture: Architecture, file: str) -> str:
    """How an ONNX file is used: at every size, and faster at one."""
    any_size = f"""import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("{file}")
inputs = {_numpy_input(architecture)}
logits = session.run(["logits"], {{"{input_name(architecture)}": inputs}})[0]
print(logits.shape, logits.argmax(-1).ravel()[-1])"""
    one_size = f"""options = onnxruntime.SessionOptions()
for axis, size in zip(("batch", "length"), inputs.shape):
    options.add_free_dimension_override_by_name(axis, size)
session = onnxruntime.InferenceSession("{file}", options)"""
    return "\n\n".join(
        [
            f"## ONNX Runtime\n\n`{file}` needs `pip install onnxruntime` and nothing else:",
            _fenced(any_size),
            "That session takes any batch and length. One that takes a single shape is faster; the stated "
            "latency is that of such a one:",
            _fenced(one_size),
        ]
    )


def _generation() -> str:
    return f"""tokens = model.generate(inputs, {NEW_TOKENS})
print(bytes(tokens[0].tolist()).decode(errors="replace"))"""


def _generates(architecture: Architecture) -> bool:
    """Continues text, with room for the new tokens behind the prompt."""
    decodes = architecture.is_causal and all(layer.mixer.decodable for layer in architecture.layers)
    return decodes and _is_text(architecture) and architecture.tokens >= len(PROMPT) + NEW_TOKENS


def _is_text(architecture: Architecture) -> bool:
    """Bytes, and room for the prompt."""
    interface = architecture.interface
    return isinstance(interface, BytesInterface) and interface.vocab_size >= 256 and architecture.tokens >= 8


def _torch_input(architecture: Architecture) -> str:
    if _is_text(architecture):
        return f'inputs = torch.tensor([list(b"{PROMPT}")])'
    shape = input_shape(architecture, 1)
    if isinstance(architecture.interface, BytesInterface):
        return f"inputs = torch.zeros({shape}, dtype=torch.int64)"
    return f"inputs = torch.zeros({shape})"


def _numpy_input(architecture: Architecture) -> str:
    if _is_text(architecture):
        return f'np.frombuffer(b"{PROMPT}", np.uint8).astype(np.int64)[None]'
    kind = "np.int64" if isinstance(architecture.interface, BytesInterface) else "np.float32"
    return f"np.zeros({input_shape(architecture, 1)}, {kind})"


def _fenced(code: str) -> str:
    return f"```python\n{code}\n```"
