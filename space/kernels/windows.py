"""Windows along the tokens: depthwise convolution, and the newest tokens as the state of a decoding mixer.

    conv(u)_t = sum_p c_p * u_{t + ahead - (w - 1 - p)} + bias,   p = 0 .. w - 1

Tokens outside the sequence are zeros. A kernel of width w looks w - 1 - ahead tokens back.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from .dispatch import fused


def convolved(
    u: Float[Tensor, "batch channels tokens"],
    kernel: Float[Tensor, "channels width"],
    bias: Float[Tensor, " channels"] | None,
    *,
    ahead: int,
) -> Float[Tensor, "batch channels tokens"]:
    """Each channel with its own kernel.

    A 2-D convolution of height 1, the fastest form of ONNX Runtime on CPU.
    """
    if (run := fused("depthwise", u, kernel)) is not None:
        y: Tensor = run(u.transpose(1, 2), kernel, bias, ahead)
        return y.transpose(1, 2)
    padded = functional.pad(u, (kernel.shape[1] - 1 - ahead, ahead)).unsqueeze(2)
    return functional.conv2d(padded, kernel[:, None, None, :], bias, groups=kernel.shape[0]).squeeze(2)


def newest(
    u: Float[Tensor, "batch tokens channels"], count: int, mask: Bool[Tensor, "batch tokens"] | None = None
) -> Float[Tensor, "batch count channels"]:
    """The last `count` real tokens in their order; zeros in front where there are fewer."""
    if mask is not None:
        order = torch.argsort(mask.to(torch.int8), dim=1, stable=True)
        u = (u * mask[..., None].to(u.dtype)).gather(1, order[..., None].expand_as(u))
    return functional.pad(u, (0, 0, count, 0))[:, u.shape[1] :]


def advanced(
    window: Float[Tensor, "batch width channels"], mask: Bool[Tensor, "batch one"] | None
) -> Float[Tensor, "batch kept channels"]:
    """What to keep of a state and the token after it: all but the oldest; the state itself where not real."""
    after = window[:, 1:]
    return after if mask is None else torch.where(mask[..., None], after, window[:, :-1])


def num_real(
    x: Float[Tensor, "batch tokens channels"], most: int, mask: Bool[Tensor, "batch tokens"] | None
) -> Float[Tensor, "batch 1"]:
    """Real tokens of each sequence, at most `most`, in the type of x."""
    real = torch.ones_like(x[..., 0]) if mask is None else mask.to(x.dtype)
    return real.cumsum(1)[:, -1:].clamp(max=float(most))
