"""What a task is made of: three parts of examples as plain arrays, and everything a model needs to fit them.

A text task keeps its training part as one stream of bytes; its validation and test parts are fixed windows of
`length + 1` bytes, of which the first `length` go in and the last `length` are predicted. Every other task
has one class per example, or (a recall task) one per token, where IGNORED asks nothing. Arrays may be
read-only (a shared object store): nothing here writes into them.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from space.architecture import BytesInterface, ImageInterface, Model, ValuesInterface
from space.errors import InvalidInputError

Array = NDArray[Any]
Batch = tuple[Array, Array]
"""Inputs and integer targets, ready for a model: writable, int64 tokens or float32 values."""

PartName = Literal["train", "validation", "test"]
TaskKind = Literal["language-model", "image", "text-classification", "sequence"]
Input = Literal["bytes", "values", "image"]

MIN_PATCHES = 16
MAX_PATCHES = 4096
CALIBRATION_EXAMPLES = 32


@dataclass(frozen=True, slots=True)
class Part:
    """Examples [examples, ...] and their classes, [examples] or [examples, tokens]; a text part has none of
    its own."""

    inputs: Array
    targets: Array | None = None

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class TaskData:
    """A prepared task: data, shape, quality measure and preprocessing. Made by `prepare_task`."""

    name: str
    kind: TaskKind
    train: Part
    validation: Part
    test: Part
    input: Input
    outputs: int
    """Classes, or 256 next bytes."""
    batch_size: int
    """The task's own training batch size."""
    vocab_size: int = 256
    """Of token inputs."""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    """JSON: how raw inputs become model inputs (normalisation, padding), and the class names."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """JSON: where the data came from, how it was split, and the floors of a text."""
    recipe: str = ""
    """Name of the task of an installed package whose batches and loss train it; empty: the ordinary ones."""
    recipe_version: int = 0

    @property
    def is_language_model(self) -> bool:
        return self.kind == "language-model"

    @property
    def is_per_token(self) -> bool:
        """Every token is answered, from those before it."""
        targets = self.validation.targets
        return self.is_language_model or (targets is not None and targets.ndim == 2)

    @property
    def model(self) -> Model:
        """Kind of model that fits the task."""
        if self.input == "image":
            return "vision"
        return "decoder" if self.is_per_token else "encoder"

    @property
    def default_preset(self) -> str:
        return f"{self.model}-small"

    @property
    def quality(self) -> str:
        """Objective key architectures are ranked by; smaller is better."""
        return "bits_per_byte" if self.is_language_model else "loss"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Keys of `Metrics.values`."""
        return ("loss", "bits_per_byte") if self.is_language_model else ("loss", "error")

    @property
    def length(self) -> int:
        """Tokens per example; of an image, patches at the default patch size."""
        if self.input == "image":
            return self.interface().tokens
        return int(self.validation.inputs.shape[1]) - int(self.is_language_model)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (64 hex characters) over types, shapes and contents of all arrays, and the recipe."""
        recipe = f"/{self.recipe}/{self.recipe_version}" if self.recipe else ""
        about = f"{self.kind}/{self.input}/{self.outputs}/{self.vocab_size}{recipe}"
        total = hashlib.sha256(about.encode())
        for name in ("train", "validation", "test"):
            part: Part = getattr(self, name)
            for array in (part.inputs, part.targets):
                if array is not None:
                    total.update(f"/{name}/{array.dtype.str}/{array.shape}/".encode())
                    total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()

    def part(self, name: PartName) -> Part:
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def thinned(self, count: int) -> "TaskData":
        """The same task with at most `count` evenly spaced validation examples."""
        part = self.validation
        if len(part) <= count:
            return self
        chosen = np.linspace(0, len(part) - 1, count).astype(np.int64)
        targets = None if part.targets is None else part.targets[chosen]
        return replace(self, validation=Part(part.inputs[chosen], targets))

    def interface(self, patch_size: int | None = None) -> BytesInterface | ValuesInterface | ImageInterface:
        """The interface of every architecture for this task. `patch_size` is for images only."""
        if self.input == "image":
            _, channels, height, width = self.validation.inputs.shape
            return ImageInterface(
                height=height,
                width=width,
                channels=channels,
                patch_size=default_patch_size(height, width) if patch_size is None else patch_size,
                outputs=self.outputs,
            )
        if self.input == "bytes":
            return BytesInterface(
                vocab_size=self.vocab_size, context_length=self.length, outputs=self.outputs
            )
        channels = self.validation.inputs.shape[2]
        return ValuesInterface(channels=channels, context_length=self.length, outputs=self.outputs)

    def examples(self, name: PartName, indices: Array) -> Batch:
        """The examples at `indices` of a part, copied; of training text the windows that start there."""
        part = self.part(name)
        if self.is_language_model:
            if name == "train":
                windows = part.inputs[indices[:, None] + np.arange(self.length + 1)].astype(np.int64)
            else:
                windows = part.inputs[indices].astype(np.int64)
            return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])
        assert part.targets is not None
        wanted = np.int64 if self.input == "bytes" else np.float32
        return part.inputs[indices].astype(wanted), part.targets[indices].astype(np.int64)

    def describe(self) -> dict[str, Any]:
        """JSON for a job's context."""
        return {
            "name": self.name,
            "kind": self.kind,
            "model": self.model,
            "quality": self.quality,
            "metrics": list(self.metrics),
            "interface": self.interface().model_dump(mode="json"),
            "length": self.length,
            "outputs": self.outputs,
            "batch_size": self.batch_size,
            "digest": self.digest,
            "parts": {name: len(self.part(name)) for name in ("train", "validation", "test")},
            "part_unit": {"train": "bytes", "validation": "windows", "test": "windows"}
            if self.is_language_model
            else dict.fromkeys(("train", "validation", "test"), "examples"),
            "preprocessing": dict(self.preprocessing),
            **({"recipe": self.recipe, "recipe_version": self.recipe_version} if self.recipe else {}),
            **self.source,
        }


class TrainingBatches:
    """The batch of each training step, a pure function of (seed, step): resuming needs no generator state.

    Text: windows at uniform random offsets. Else: every epoch is one permutation of the examples, batches run
    on over its end.
    """

    def __init__(self, data: TaskData, *, seed: int, batch_size: int) -> None:
        self.data, self.seed, self.batch_size = data, seed, batch_size
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def __call__(self, step: int) -> Batch:
        return self.data.examples("train", self._indices(step))

    def _indices(self, step: int) -> Array:
        if self.data.is_language_model:
            last = len(self.data.train) - self.data.length
            return np.random.default_rng([self.seed, step]).integers(0, last, self.batch_size)
        count, first = len(self.data.train), step * self.batch_size
        places = (divmod(place, count) for place in range(first, first + self.batch_size))
        return np.array([self._order_of(epoch)[place] for epoch, place in places])

    def _order_of(self, epoch: int) -> Array:
        if epoch != self._epoch:
            generator = np.random.default_rng([self.seed, epoch])
            self._epoch, self._order = epoch, generator.permutation(len(self.data.train))
        return self._order


def probe_batch(data: TaskData, size: int = 16) -> Batch:
    """What proxies look at: `size` training examples, the same for equal data; at most 256 tokens of text."""
    seed = int(data.digest[:16], 16)
    inputs, targets = TrainingBatches(data, seed=seed, batch_size=size)(0)
    return (inputs[:, :256], targets[:, :256]) if data.is_language_model else (inputs, targets)


def calibration_batch(data: TaskData) -> Array:
    """Training inputs that fix what a number format takes from data; the same for equal data."""
    return probe_batch(data, CALIBRATION_EXAMPLES)[0]


def default_patch_size(height: int, width: int) -> int:
    """The largest patch that divides both sides and leaves at least 16 patches, else 1.

    >>> default_patch_size(8, 8), default_patch_size(28, 28), default_patch_size(3, 3)
    (2, 7, 1)

    Raises:
        InvalidInputError: even so there are more than 4,096 patches.
    """
    common = math.gcd(height, width)
    sizes = [p for p in range(1, common + 1) if common % p == 0 and height * width // p**2 >= MIN_PATCHES]
    size = max(sizes, default=1)
    if height * width // size**2 > MAX_PATCHES:
        raise InvalidInputError(
            f"images of {height}x{width} are cut into {height * width // size**2} patches of {size}x{size}, "
            f"more than {MAX_PATCHES}; resize them to sides with a common divisor"
        )
    return size
