"""Runs an exported torch.export program on stored inputs: torch and numpy only.

torch_program.py FOLDER INPUTS.npz OUTPUTS.npz FILE        in_0, in_1, ... -> out_0, out_1, ...
"""

import sys
from pathlib import Path

import numpy as np
import torch


def main(folder: str, inputs_file: str, outputs_file: str, file: str) -> None:
    torch.set_num_threads(1)
    model = torch.export.load(Path(folder) / file).module()
    with np.load(inputs_file, allow_pickle=False) as stored:
        inputs = [stored[f"in_{index}"] for index in range(len(stored.files))]
    with torch.inference_mode():
        outputs = [model(torch.from_numpy(values)).numpy() for values in inputs]
    np.savez(outputs_file, **{f"out_{index}": values for index, values in enumerate(outputs)})


if __name__ == "__main__":
    main(*sys.argv[1:])
