"""Python that writes text with a step file, as the model card prints it."""

from ..architecture import Architecture, BytesInterface
from .step import STEP_STATE

PROMPT = "def main"
NEW_TOKENS = 8


def step_part(architecture: Architecture, file: str) -> str:
    """How a step file is used: the prompt goes in token by token, then the likeliest token every time."""
    interface = architecture.interface
    assert isinstance(interface, BytesInterface)
    is_text = interface.vocab_size == 256
    prompt = f'list(b"{PROMPT}")' if is_text and _fits(architecture) else "[0]"
    count = NEW_TOKENS if _fits(architecture) else max(1, architecture.tokens - 1)
    return f"""## Token by token in ONNX Runtime

`{file}` takes one token and the state of every layer, and gives the logits of the next one and the state
after it; `{STEP_STATE}` is the state before the first token, for one sequence (repeat it along the first
axis for several). It needs `pip install onnxruntime`:

```python
import numpy as np, onnxruntime
step = onnxruntime.InferenceSession("{file}")
state, tokens = dict(np.load("{STEP_STATE}")), {prompt}
for position in range(len(tokens) + {count} - 1):
    feed = {{"token": np.array([tokens[position]]), "position": np.array(position), **state}}
    logits, *after = step.run(None, feed)
    state = dict(zip(state, after))
    if position + 1 >= len(tokens):
        tokens.append(int(logits[0].argmax()))
print({"bytes(tokens)" if is_text else "tokens"})
```"""


def _fits(architecture: Architecture) -> bool:
    return architecture.tokens >= len(PROMPT) + NEW_TOKENS
