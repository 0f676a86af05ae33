"""Runs an exported folder on stored inputs as Hugging Face transformers loads it, without a network.

transformers_folder.py FOLDER INPUTS.npz OUTPUTS.npz FILE        in_0, in_1, ... -> out_0, out_1, ...

transformers copies the folder's code into its cache, which is a folder of its own here.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np


def main(folder: str, inputs_file: str, outputs_file: str, file: str) -> None:
    with tempfile.TemporaryDirectory(prefix="paretoformer-") as cache:
        os.environ |= {"HF_HOME": cache, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        import torch
        import transformers

        torch.set_num_threads(1)
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        names = [name for name in config["auto_map"] if name.startswith("AutoModelFor")]
        model = getattr(transformers, names[0]).from_pretrained(folder, trust_remote_code=True).eval()
        with np.load(inputs_file, allow_pickle=False) as stored:
            inputs = [stored[f"in_{index}"] for index in range(len(stored.files))]
        with torch.inference_mode():
            outputs = [model(torch.from_numpy(values)).logits.numpy() for values in inputs]
    np.savez(outputs_file, **{f"out_{index}": values for index, values in enumerate(outputs)})


if __name__ == "__main__":
    main(*sys.argv[1:])
