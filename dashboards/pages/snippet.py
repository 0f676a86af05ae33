"""A few lines that use an exported model, and the command that exports it."""

from collections.abc import Mapping
from typing import Any

from search.records import JobRecord, TrialRecord


def onnx_snippet(architecture: Mapping[str, Any]) -> str:
    """Python that runs `model.onnx` of the downloaded folder with ONNX Runtime alone."""
    interface = architecture["interface"]
    lines = ["import numpy as np", "import onnxruntime"]
    if interface["input"] == "bytes":
        given = 'np.frombuffer(b"import ", dtype=np.uint8).astype(np.int64)[None]'
        name = "tokens"
    elif interface["input"] == "values":
        given = f"np.zeros((1, {interface['context_length']}, {interface['channels']}), np.float32)"
        name = "values"
    else:
        shape = f"1, {interface['channels']}, {interface['height']}, {interface['width']}"
        given, name = f"np.zeros(({shape}), np.float32)", "values"
    lines += [
        'session = onnxruntime.InferenceSession("model.onnx")',
        f'(logits,) = session.run(["logits"], {{"{name}": {given}}})',
        "print(logits[0, -1].argmax())"
        if architecture["head"]["kind"] == "language"
        else "print(logits[0].argmax())",
    ]
    return "\n".join(lines)


def export_command(job: JobRecord, trial: TrialRecord) -> str:
    """The same export from the command line."""
    return f"paretoformer export {job.id[:8]} --pick {trial.label} --format torch,onnx --out model"
