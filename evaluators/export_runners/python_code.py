"""Runs an exported Python file on stored inputs: torch, safetensors and numpy only.

    python_code.py FOLDER INPUTS.npz OUTPUTS.npz FILE [WEIGHTS]        in_0, in_1, ... -> out_0, out_1, ...

WEIGHTS is a safetensors file in place of the one that `load` reads, for a folder that has code alone.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_model


def main(folder: str, inputs_file: str, outputs_file: str, file: str, weights: str = "") -> None:
    torch.set_num_threads(1)
    path = Path(folder) / file
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    if weights:
        model = module.Model()
        load_model(model, weights)
        model.eval()
    else:
        model = module.load(folder)
    with np.load(inputs_file, allow_pickle=False) as stored:
        inputs = [stored[f"in_{index}"] for index in range(len(stored.files))]
    with torch.inference_mode():
        outputs = [model(torch.from_numpy(values)).numpy() for values in inputs]
    np.savez(outputs_file, **{f"out_{index}": values for index, values in enumerate(outputs)})


if __name__ == "__main__":
    main(*sys.argv[1:])
