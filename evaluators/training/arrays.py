"""Tasks from arrays, and from a user's `.npz` file.

A file holds `x_train, y_train, x_test, y_test`, or `x, y`; a fifth of what may be used for it, at most 2,000
examples, becomes the validation part (and without `x_test` as many more the test part), every class in its
proportion.
"""

import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from space.errors import InvalidInputError

from .data import Array, Input, Part, TaskData, TaskKind, default_patch_size

BATCH_SIZE = 64
MAX_HELD_OUT = 2000
MIN_EXAMPLES = 20
MAX_LENGTH = 8192
MAX_SIDE = 4096
MAX_TOKEN = 999_999
MAX_BYTES = 2**32
SPLIT_SEED = 0
KEYS = ({"x", "y"}, {"x_train", "y_train", "x_test", "y_test"})


def npz_path(path: Path, kind: TaskKind) -> TaskData:
    """A user's `.npz` file as an image or sequence task."""
    return array_task(path.name, kind, read_npz(path), where=f"'{path}'")


def read_npz(path: Path) -> Mapping[str, Array]:
    """All arrays of the file, without pickles.

    Raises:
        InvalidInputError: not an `.npz`, too large, wrong names, or Python objects inside.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_BYTES:
            raise InvalidInputError(
                f"'{path}' holds {size:,} bytes; at most {MAX_BYTES:,}: store fewer examples"
            )
        with np.load(path, allow_pickle=False) as stored:
            if set(stored.files) not in KEYS:
                raise InvalidInputError(
                    f"'{path}' holds the arrays {', '.join(sorted(stored.files)) or 'none'}; "
                    "name them x and y, or x_train, y_train, x_test and y_test"
                )
            arrays = {name: stored[name] for name in stored.files}
    except (zipfile.BadZipFile, zlib.error) as error:
        raise InvalidInputError(f"'{path}' is not an .npz file; write it with numpy.savez") from error
    except OSError as error:
        raise InvalidInputError(f"'{path}' cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, MemoryError, RuntimeError) as error:
        raise InvalidInputError(f"'{path}' cannot be read: {_one_line(error)}; use plain arrays") from error
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise InvalidInputError(f"'{path}' holds something else than arrays; write it with numpy.savez")
    return arrays


def array_task(
    name: str, kind: TaskKind, arrays: Mapping[str, Array], *, where: str, vocab_size: int | None = None
) -> TaskData:
    """Arrays as a classification task; `where` names them in messages. `vocab_size`: by default as found.

    Raises:
        InvalidInputError: a shape, type or value that cannot be learned from; the message names the array.
    """
    inputs = {key: array for key, array in arrays.items() if key.startswith("x")}
    named = {
        key: _labels(key, arrays[key.replace("x", "y", 1)], array, where) for key, array in inputs.items()
    }
    fit = "x" if "x" in inputs else "x_train"
    classes = np.unique(named[fit])
    _check_classes(named, classes, fit, where)
    form = _input_form(kind, fit, inputs[fit])
    shaped = {key: _shaped(key, array, form, where) for key, array in inputs.items()}
    targets = {key: np.searchsorted(classes, labels).astype(np.int64) for key, labels in named.items()}
    if "x_test" in shaped and shaped["x_test"].shape[1:] != shaped[fit].shape[1:]:
        raise InvalidInputError(
            f"{where}: x_test has examples of shape {inputs['x_test'].shape[1:]}, x_train of "
            f"{inputs['x_train'].shape[1:]}; give both the same"
        )
    parts = _split(shaped, targets, fit)
    if form == "bytes" and vocab_size is None:
        vocab_size = max(2, 1 + max(int(part.inputs.max()) for part in parts.values()))
    return _task(name, kind, form, parts, [str(label) for label in classes], vocab_size)


def _task(
    name: str,
    kind: TaskKind,
    form: Input,
    parts: Mapping[str, Part],
    classes: list[str],
    vocab_size: int | None,
) -> TaskData:
    preprocessing: dict[str, Any] = {"classes": classes}
    if form == "bytes":
        preprocessing["vocab_size"] = vocab_size
    else:
        mean, deviation = _moments(parts["train"].inputs, form)
        parts = {key: _normalised(part, mean, deviation) for key, part in parts.items()}
        preprocessing["normalisation"] = {"mean": mean.ravel().tolist(), "std": deviation.ravel().tolist()}
    return TaskData(
        name=name,
        kind=kind,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        input=form,
        outputs=len(classes),
        batch_size=BATCH_SIZE,
        vocab_size=vocab_size or 256,
        preprocessing=preprocessing,
        source={"split": f"stratified, seed {SPLIT_SEED}", "majority_error": _majority_error(parts)},
    )


def _input_form(kind: TaskKind, key: str, array: Array) -> Input:
    if kind == "image":
        return "image"
    return "bytes" if array.ndim == 2 and array.dtype.kind in "iu" else "values"


def _shaped(key: str, array: Array, form: Input, where: str) -> Array:
    """[examples, channels, height, width], [examples, tokens, channels] or [examples, tokens], checked."""
    if array.dtype.kind not in "iufb":
        raise InvalidInputError(f"{where}: {key} has type {array.dtype}; store numbers")
    if form == "bytes":
        return _tokens(key, array, where)
    wanted = {"image": (3, 4), "values": (2, 3)}[form]
    if array.ndim not in wanted or 0 in array.shape:
        shapes = {
            "image": "[examples, height, width], or with channels before height or after width",
            "values": "[examples, tokens] or [examples, tokens, channels]",
        }[form]
        raise InvalidInputError(f"{where}: {key} has shape {list(array.shape)}; {form} tasks need {shapes}")
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    if not np.isfinite(values).all():
        index = int(np.argwhere(~np.isfinite(values))[0][0])
        raise InvalidInputError(
            f"{where}: {key} example {index} is not finite in float32; remove or replace it"
        )
    return _image(key, values, where) if form == "image" else _values(key, values, where)


def _image(key: str, values: Array, where: str) -> Array:
    if values.ndim == 3:
        values = values[:, None]
    elif values.shape[3] in (1, 3, 4) and values.shape[1] not in (1, 3, 4):
        values = values.transpose(0, 3, 1, 2)
    height, width = values.shape[2:]
    if max(height, width) > MAX_SIDE:
        raise InvalidInputError(
            f"{where}: {key} has images of {height}x{width}; at most {MAX_SIDE}: resize them"
        )
    default_patch_size(height, width)
    return np.ascontiguousarray(values)


def _values(key: str, values: Array, where: str) -> Array:
    if values.ndim == 2:
        values = values[:, :, None]
    _check_length(key, values, where)
    return values


def _tokens(key: str, array: Array, where: str) -> Array:
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "iu":
        raise InvalidInputError(
            f"{where}: {key} is {array.dtype} of shape {list(array.shape)}; "
            "token sequences are integers of shape [examples, tokens]"
        )
    _check_length(key, array, where)
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > MAX_TOKEN:
        raise InvalidInputError(
            f"{where}: {key} has token {low if low < 0 else high}; tokens are 0 to {MAX_TOKEN}"
        )
    return array.astype(np.int32)


def _check_length(key: str, array: Array, where: str) -> None:
    if array.shape[1] > MAX_LENGTH:
        raise InvalidInputError(
            f"{where}: {key} has {array.shape[1]} tokens per example; at most {MAX_LENGTH}"
        )


def _labels(key: str, labels: Array, inputs: Array, where: str) -> Array:
    label = key.replace("x", "y", 1)
    if labels.dtype.kind not in "iubU":
        raise InvalidInputError(f"{where}: {label} has type {labels.dtype}; classes are integers or strings")
    if labels.ndim != 1 or labels.shape != inputs.shape[:1]:
        raise InvalidInputError(
            f"{where}: {label} has shape {list(labels.shape)} and {key} {list(inputs.shape)}; "
            "give one class per example"
        )
    return labels


def _check_classes(labels: Mapping[str, Array], classes: Array, fit: str, where: str) -> None:
    count = len(labels[fit])
    if count < MIN_EXAMPLES:
        raise InvalidInputError(f"{where}: {fit} has {count} examples; at least {MIN_EXAMPLES} are needed")
    if len(classes) < 2:
        raise InvalidInputError(f"{where}: every example has the class {classes[0]}; at least 2 are needed")
    if len(classes) > count // 2:
        raise InvalidInputError(
            f"{where}: {len(classes)} classes in {count} examples; classes must repeat (is this regression?)"
        )
    if "x_test" in labels:
        if len(labels["x_test"]) == 0:
            raise InvalidInputError(
                f"{where}: x_test has no example; leave it out and name the others x and y"
            )
        if (labels["x_test"].dtype.kind == "U") != (classes.dtype.kind == "U"):
            raise InvalidInputError(
                f"{where}: y_train and y_test mix numbers and strings; give both one type"
            )
        unknown = np.setdiff1d(labels["x_test"], classes)
        if len(unknown):
            raise InvalidInputError(
                f"{where}: y_test has the class {unknown[0]}, which y_train does not have"
            )


def _split(inputs: Mapping[str, Array], targets: Mapping[str, Array], fit: str) -> dict[str, Part]:
    x, y = inputs[fit], targets[fit]
    share = min(0.2, MAX_HELD_OUT / len(y))
    validation = held_out(y, share, np.arange(len(y)))
    rest = np.setdiff1d(np.arange(len(y)), validation)
    if "x_test" in inputs:
        test = Part(inputs["x_test"], targets["x_test"])
    else:
        chosen = held_out(y, share * len(y) / len(rest), rest)
        rest = np.setdiff1d(rest, chosen)
        test = Part(x[chosen], y[chosen])
    return {"train": Part(x[rest], y[rest]), "validation": Part(x[validation], y[validation]), "test": test}


def held_out(labels: Array, share: float, available: Array) -> Array:
    """Sorted indices of about `share` of the available examples, every class in proportion, none entirely."""
    order = np.random.default_rng(SPLIT_SEED).permutation(available)
    chosen, carried = [], 0.5  # what rounding one class leaves over is given to the next
    for label in np.unique(labels[available]):
        members = order[labels[order] == label]
        wanted = carried + share * len(members)
        taken = min(math.floor(wanted), len(members) - 1)
        carried = (wanted - taken) % 1
        chosen.append(members[:taken])
    return np.sort(np.concatenate(chosen))


def _moments(train: Array, form: Input) -> tuple[Array, Array]:
    """Mean and standard deviation per channel of the training part; a constant channel has deviation 1."""
    axes = (0, 2, 3) if form == "image" else (0, 1)
    mean = train.mean(axes, dtype=np.float64, keepdims=True)
    deviation = train.std(axes, dtype=np.float64, keepdims=True)
    return mean.astype(np.float32), np.where(deviation > 1e-6 * np.abs(mean), deviation, 1).astype(np.float32)


def _normalised(part: Part, mean: Array, deviation: Array) -> Part:
    return Part((part.inputs - mean) / deviation, part.targets)


def _majority_error(parts: Mapping[str, Part]) -> float:
    """Validation error of always answering the most frequent training class."""
    train, validation = parts["train"].targets, parts["validation"].targets
    assert train is not None
    assert validation is not None
    return float((validation != np.bincount(train).argmax()).mean())


def _one_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
