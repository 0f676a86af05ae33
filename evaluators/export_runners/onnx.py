"""Runs an exported ONNX file on stored inputs: numpy and onnxruntime only.

    onnx.py FOLDER INPUTS.npz OUTPUTS.npz FILE        in_0, in_1, ... -> out_0, out_1, ...

A file of one decode step gets every row of tokens one after the other, from the state in `step_state.npz`,
and gives the logits of all of them, as the whole model does.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


def main(folder: str, inputs_file: str, outputs_file: str, file: str) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(Path(folder) / file), options, providers=["CPUExecutionProvider"]
    )
    with np.load(inputs_file, allow_pickle=False) as stored:
        inputs = [stored[f"in_{index}"] for index in range(len(stored.files))]
    if any(value.name == "token" for value in session.get_inputs()):
        with np.load(Path(folder) / "step_state.npz", allow_pickle=False) as stored:
            first = {name: stored[name] for name in stored.files}
        outputs = [stepped(session, first, tokens) for tokens in inputs]
    else:
        name = session.get_inputs()[0].name
        outputs = [session.run(["logits"], {name: values})[0] for values in inputs]
    np.savez(outputs_file, **{f"out_{index}": values for index, values in enumerate(outputs)})


def stepped(session: Any, first: dict[str, Any], tokens: Any) -> Any:
    """Logits [batch, tokens, outputs] of rows of tokens, one token at a time."""
    state = {name: np.repeat(value, len(tokens), axis=0) for name, value in first.items()}
    rows = []
    for position in range(tokens.shape[1]):
        feed = {"token": tokens[:, position], "position": np.array(position, np.int64), **state}
        logits, *after = session.run(None, feed)
        state = dict(zip(state, after, strict=True))
        rows.append(logits)
    return np.stack(rows, axis=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
