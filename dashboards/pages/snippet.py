"""A few lines that use an exported model, and the command that exports it."""

from collections.abc import Mapping
from typing import Any

from search.records import JobRecord, TrialRecord


def onnx_snippet(architecture: Mapping[str, Any]) -> str:
    """Python that runs `model.onnx` of the downloaded folder with ONNX Runtime alone."""
    interface = architecture["interface"]
    name = "tokens" if interface["input"] == "bytes" else "values"
    if interface["input"] == "bytes":
        given = 'np.frombuffer(b"import ", np.uint8).astype(np.int64)[None]'
    else:
        sizes = (
            ("context_length", "channels")
            if interface["input"] == "values"
            else ("channels", "height", "width")
        )
        given = f"np.zeros((1, {', '.join(str(interface[size]) for size in sizes)}), np.float32)"
    answer = "logits[0, -1]" if architecture["head"]["kind"] == "language" else "logits[0]"
    return f"""import numpy as np, onnxruntime
{name} = {given}
session = onnxruntime.InferenceSession("model.onnx")
(logits,) = session.run(["logits"], {{"{name}": {name}}})
print({answer}.argmax())"""


def export_command(job: JobRecord, trial: TrialRecord) -> str:
    """The same export from the command line."""
    return f"paretoformer export {job.id[:8]} --pick {trial.label} --format torch,onnx --out model"
