"""An exported folder as a function: raw inputs to class names and probabilities, a text to its continuation.

ONNX files run in ONNX Runtime; a folder with weights only runs in eager torch. Files that are not those of
the folder's own report are refused.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from space.architecture import (
    Architecture,
    BytesInterface,
    ImageInterface,
    ValuesInterface,
    parse_architecture,
)
from space.errors import InvalidInputError, UnsupportedError, nearest
from space.export import STEP_STATE, load_folder

Array = NDArray[Any]
ONNX_FIRST = ("model.int8.onnx", "model.int8-static.onnx", "model.int4.onnx", "model.onnx")
"""Of several files the one that was asked for beside the plain one."""
REPORT = "export_report.json"
MOST_NUMBERS = 4_000_000
TOP = 5


class ServedModel:
    """One file of an exported folder, loaded once."""

    def __init__(self, folder: Path, file: str | None = None) -> None:
        self.folder = folder
        self.architecture = _architecture(folder)
        self.preprocessing: dict[str, Any] = _json(folder / "preprocessing.json")
        self.file = _chosen(folder, file)
        _check_files(folder)
        self._run = _predictor(folder, self.file)
        self._step = _stepper(folder, self.file)

    @property
    def classes(self) -> list[str] | None:
        """Names of the outputs; None for a language model."""
        if self.architecture.head.kind == "language":
            return None
        known = self.preprocessing.get("classes") or []
        return [
            str(known[i]) if i < len(known) else str(i) for i in range(self.architecture.interface.outputs)
        ]

    def describe(self) -> dict[str, Any]:
        """What it takes and gives, as JSON."""
        return {
            "architecture_id": self.architecture.id,
            "model": self.architecture.model,
            "file": self.file,
            "input": self.architecture.interface.model_dump(mode="json"),
            "classes": self.classes,
            "generates": self.generates,
        }

    @property
    def generates(self) -> bool:
        """Whether it continues a text."""
        interface = self.architecture.interface
        is_text = isinstance(interface, BytesInterface) and interface.vocab_size == 256
        return is_text and interface.outputs == 256 and self.architecture.head.kind == "language"

    def predict(self, *, inputs: object = None, text: str | None = None) -> dict[str, Any]:
        """Classes with probabilities, or the likeliest next tokens, of every input of a batch.

        Raises:
            InvalidInputError: neither or both, or another shape or range than the model takes.
        """
        if (inputs is None) == (text is None):
            raise InvalidInputError("send either `inputs`, a batch as nested lists, or `text`")
        values = self.tokens_of(text) if text is not None else self.inputs_of(inputs)
        logits = self._run(values)
        if self.classes is None:
            return {"next": [_likeliest(row[-1]) for row in logits]}
        shares = _softmax(logits)
        best = [self.classes[int(row.argmax())] for row in shares]
        return {"classes": self.classes, "best": best, "probabilities": shares.tolist()}

    def generate(
        self, prompt: str, *, max_new_tokens: int = 100, temperature: float = 0.0, seed: int = 0
    ) -> dict[str, Any]:
        """The prompt continued byte by byte: the likeliest byte at temperature 0, else drawn.

        Raises:
            UnsupportedError: the model is no byte language model.
            InvalidInputError: prompt and continuation do not fit the context.
        """
        if not self.generates:
            raise UnsupportedError(
                f"a {self.architecture.model} with {self.architecture.interface.outputs} outputs writes no "
                "text; ask for /predict"
            )
        tokens = list(prompt.encode("utf-8"))
        context = self.architecture.tokens
        if not 1 <= len(tokens) <= len(tokens) + max_new_tokens <= context:
            raise InvalidInputError(
                f"a prompt of {len(tokens)} bytes and {max_new_tokens} new ones do not fit the context of "
                f"{context}; the prompt needs at least one: shorten it or lower max_new_tokens"
            )
        choose = _chooser(temperature, seed)
        written = (
            self._step(tokens, max_new_tokens, choose)
            if self._step
            else self._rerun(tokens, max_new_tokens, choose)
        )
        return {
            "text": bytes(tokens + written).decode("utf-8", "replace"),
            "continuation": bytes(written).decode("utf-8", "replace"),
            "tokens": written,
            "with_state": self._step is not None,
        }

    def tokens_of(self, text: str) -> Array:
        """[1, length]: bytes, cut at the context; for a classifier filled up with zeros, as in training."""
        interface = self.architecture.interface
        if not isinstance(interface, BytesInterface) or interface.vocab_size < 256:
            raise InvalidInputError("`text` is for models of bytes; send `inputs`")
        tokens = np.frombuffer(text.encode("utf-8")[: self.architecture.tokens], np.uint8).astype(np.int64)
        if not len(tokens):
            raise InvalidInputError("`text` is empty; send at least one character")
        if self.classes is not None:
            tokens = np.pad(tokens, (0, self.architecture.tokens - len(tokens)))
        return tokens[None]

    def inputs_of(self, inputs: object) -> Array:
        """A batch of raw inputs as the model takes them: checked, and normalised as the training data was."""
        interface = self.architecture.interface
        try:
            values = np.asarray(inputs, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"`inputs` is no regular array of numbers: {error}") from error
        if values.size > MOST_NUMBERS or not np.isfinite(values).all():
            raise InvalidInputError(f"`inputs` has {values.size:,} numbers, or one is not finite")
        shape = _shape_words(self.architecture)
        if isinstance(interface, BytesInterface):
            if values.ndim != 2 or not 1 <= values.shape[1] <= interface.context_length or not len(values):
                raise InvalidInputError(f"`inputs` of shape {list(values.shape)} is not {shape}")
            if (values % 1).any() or values.min() < 0 or values.max() >= interface.vocab_size:
                raise InvalidInputError(f"a token is not a whole number from 0 to {interface.vocab_size - 1}")
            return values.astype(np.int64)
        if isinstance(interface, ImageInterface):
            fits = values.shape[1:] == (interface.channels, interface.height, interface.width)
        else:
            assert isinstance(interface, ValuesInterface)
            fits = values.ndim == 3 and values.shape[2] == interface.channels
            fits = fits and 1 <= values.shape[1] <= interface.context_length
        if not fits or not len(values):
            raise InvalidInputError(f"`inputs` of shape {list(values.shape)} is not {shape}")
        return self._normalised(values).astype(np.float32)

    def _normalised(self, values: Array) -> Array:
        given = self.preprocessing.get("normalisation")
        if not given:
            return values
        mean, std = (np.asarray(given[name], dtype=np.float64) for name in ("mean", "std"))
        channel_last = (1,) * (values.ndim - 1) + (-1,)
        channel_first = (1, -1) + (1,) * (values.ndim - 2)
        shape = channel_first if isinstance(self.architecture.interface, ImageInterface) else channel_last
        normalised: Array = (values - mean.reshape(shape)) / std.reshape(shape)
        return normalised

    def _rerun(self, tokens: list[int], count: int, choose: Callable[[Array], int]) -> list[int]:
        """Without a step file every token reads the whole text again."""
        written: list[int] = []
        for _ in range(count):
            logits = self._run(np.array([tokens + written], dtype=np.int64))
            written.append(choose(logits[0, -1]))
        return written


Stepper = Callable[[list[int], int, Callable[[Array], int]], list[int]]


def _predictor(folder: Path, file: str) -> Callable[[Array], Array]:
    if file.endswith(".onnx"):
        from evaluators.latency import predictor

        return predictor(folder / file)
    from evaluators.training import module_predictor

    return module_predictor(load_folder(folder)[0])


def _stepper(folder: Path, file: str) -> Stepper | None:
    """Continues tokens by the step file that belongs to a model file; None where there is none."""
    path = folder / file.replace("model.", "step.").replace("int8-static", "int8")
    if path.suffix != ".onnx" or not path.is_file() or not (folder / STEP_STATE).is_file():
        return None
    from evaluators.latency.runtimes.step_file import StepState, step_function

    run = step_function(path)
    with np.load(folder / STEP_STATE, allow_pickle=False) as stored:
        first = {name: stored[name] for name in stored.files}

    def step(tokens: list[int], count: int, choose: Callable[[Array], int]) -> list[int]:
        state: StepState = first
        written: list[int] = []
        waiting = list(tokens)
        for position in range(len(tokens) + count - 1):
            token = waiting[position]
            logits, state = run(np.array([token]), position, state)
            if position >= len(tokens) - 1:
                written.append(choose(logits[0]))
                waiting.append(written[-1])
        return written

    return step


def _chooser(temperature: float, seed: int) -> Callable[[Array], int]:
    if temperature == 0.0:
        return lambda logits: int(logits.argmax())
    rng = np.random.default_rng(seed)

    def draw(logits: Array) -> int:
        shares = _softmax(logits[None].astype(np.float64) / temperature)[0]
        return int(rng.choice(len(shares), p=shares / shares.sum()))

    return draw


def _softmax(logits: Array) -> Array:
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Array = weights / weights.sum(axis=-1, keepdims=True)
    return shares


def _likeliest(logits: Array) -> list[dict[str, Any]]:
    shares = _softmax(logits[None])[0]
    best = np.argsort(-shares)[:TOP]
    return [
        {"token": int(token), "text": _shown(int(token), len(shares)), "probability": float(shares[token])}
        for token in best
    ]


def _shown(token: int, outputs: int) -> str | None:
    """The character of a printable ASCII byte."""
    character = chr(token)
    return character if outputs == 256 and token < 128 and character.isprintable() else None


def _shape_words(architecture: Architecture) -> str:
    interface = architecture.interface
    if isinstance(interface, ImageInterface):
        return f"[batch, {interface.channels}, {interface.height}, {interface.width}]"
    if isinstance(interface, ValuesInterface):
        return f"[batch, length up to {interface.context_length}, {interface.channels}]"
    return f"[batch, length up to {interface.context_length}] of token ids"


def _architecture(folder: Path) -> Architecture:
    try:
        return parse_architecture((folder / "architecture.json").read_bytes())
    except OSError as error:
        raise InvalidInputError(
            f"'{folder}' is no exported folder: architecture.json cannot be read ({error.strerror}); "
            "name one that `paretoformer export` wrote"
        ) from error


def _chosen(folder: Path, file: str | None) -> str:
    present = [name for name in (*ONNX_FIRST, "model.safetensors") if (folder / name).is_file()]
    if not present:
        raise InvalidInputError(
            f"'{folder}' has neither an ONNX file nor weights; export it with onnx or torch"
        )
    if file is None:
        return present[0]
    if file not in present:
        raise InvalidInputError(f"'{folder}' has no '{file}'; {nearest(file, present)}")
    return file


def _check_files(folder: Path) -> None:
    """Raises InvalidInputError where a file is not the one that the folder's report names."""
    report = _json(folder / REPORT) if (folder / REPORT).is_file() else {}
    sums: Mapping[str, str] = report.get("sha256") or {}
    for name, expected in sums.items():
        path = folder / Path(name).name
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise InvalidInputError(
                f"'{path}' is not the file that was exported (another SHA-256); export it again"
            )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except OSError:
        return {}
    except ValueError as error:
        raise InvalidInputError(f"'{path}' is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInputError(f"'{path}' is not a JSON object")
    return found
