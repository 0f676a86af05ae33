"""Sums over the past whose terms fade: the algebra of recurrent mixers, for all tokens at once.

    S_t = diag(a_t) S_{t-1} + k_t v_t^T        o_t = q_t S_t
    that is   o_i = sum_{j <= i} ((q_i * a_{j+1} * .. * a_i) . k_j) v_j

a_t in (0, 1] is one number per head (retention), per head and token (scalar gates), or one per key channel
(vector gates). Tokens are cut into chunks: within a chunk a square of scores, between chunks the states, by
an associative scan of shifted steps, so that batch and length stay free in an exported graph. Both ways, a
second decay a'_t fades the future: o_i gets sum_{j > i} ((q_i * a'_i * .. * a'_{j-1}) . k_j) v_j on top.

Source: Yang et al. 2023, arXiv:2312.06635, section 4 (chunk form); Dao and Gu 2024, arXiv:2405.21060, section
6; Hillis and Steele 1986 (shifted steps). The symmetric anchor of `Growth` is ours.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from .attention import merge_heads, split_heads

SCALAR_FLOOR = -40.0
"""Least log decay per token of `scalar_sums`: exp(-40) is 0 beside 1 even in float64; sums stay precise."""

FORBIDDEN = -1e30

CACHED_STATES = 2**15
"""Numbers of all chunks' states that `selective_scan` works on at once."""

LARGEST_EXPONENT = 64.0
"""Factors of `bounded_sums` stay within exp(+-64): their products with keys and queries fit float32."""


@dataclass(frozen=True, slots=True)
class Chunks:
    """How a context is cut: one chunk of free length, or many of `size` tokens, the last one filled up.

    Cut tensors have the axes batch, heads, chunks, tokens of a chunk, width; no axis of chunks in one chunk.
    """

    size: int
    count: int

    @classmethod
    def of(cls, context_length: int, size: int) -> "Chunks":
        size = min(size, context_length)
        return cls(size, -(-context_length // size))

    @property
    def rounds(self) -> int:
        """Shifted steps that reach from the first chunk to the last."""
        return (self.count - 1).bit_length()

    def padded(self, tokens: int) -> int:
        """Tokens as computed."""
        return tokens if self.count == 1 else self.whole(tokens)

    def whole(self, tokens: int) -> int:
        """Tokens with the last chunk filled up."""
        return -(-tokens // self.size) * self.size

    def pairs(self, tokens: int) -> int:
        """Scores as computed, per head."""
        return tokens**2 if self.count == 1 else self.padded(tokens) * self.size

    def past_pairs(self, tokens: int) -> int:
        """Scores of a query with itself and the past of its chunk."""
        whole, rest = divmod(tokens, self.size)
        return (whole * self.size * (self.size + 1) + rest * (rest + 1)) // 2

    def heads(self, part: Float[Tensor, "batch tokens merged"], num_heads: int) -> Tensor:
        """Channels cut into heads and tokens into chunks; zeros fill up: they neither fade nor add."""
        if self.count == 1:
            return split_heads(part, num_heads)
        width = part.shape[-1] // num_heads
        rows = self.filled(part).reshape(part.shape[0], -1, self.size, num_heads, width)
        return rows.permute(0, 3, 1, 2, 4)

    def cut(self, heads: Float[Tensor, "batch heads tokens width"]) -> Tensor:
        """The tokens of heads cut into chunks."""
        return heads if self.count == 1 else torch.unflatten(self.filled(heads), -2, (-1, self.size))

    def filled(self, part: Float[Tensor, "*axes tokens width"]) -> Float[Tensor, "*axes whole width"]:
        """Zeros behind the last token up to a whole chunk."""
        return functional.pad(part, (0, 0, 0, (-part.shape[-2]) % self.size))

    def merged(self, cut: Tensor, like: Float[Tensor, "batch tokens any"]) -> Tensor:
        """Heads side by side and tokens in a row again, as many as those of `like`."""
        if self.count == 1:
            return merge_heads(cut)
        rows = cut.permute(0, 2, 3, 1, 4).flatten(3)
        return rows.flatten(1, 2)[:, : like.shape[1]]


@dataclass(frozen=True, slots=True)
class Growth:
    """Decays of every chunk as factors around a middle r of their range, so that both signs stay small.

    With b the running sum of log decays within the chunk, B its last value and r = B/2: `inner` is
    exp(b - r), for the future with b before the token itself, `first` exp(r) and `last` exp(B - r).
    """

    inner: Float[Tensor, "*cut_axes chunk width"]
    first: Float[Tensor, "*cut_axes 1 width"]
    last: Float[Tensor, "*cut_axes 1 width"]
    is_constant: bool = False
    """The same for all chunks: one chunk stands for all."""

    @classmethod
    def of(cls, log_decay: Float[Tensor, "*cut_axes chunk width"], *, is_backward: bool = False) -> "Growth":
        total = log_decay.cumsum(-2)
        whole = total[..., -1:, :]
        # r cancels out of every product; a gradient through it would let rounding see the future
        middle = 0.5 * whole.detach()
        inner = torch.exp(total - log_decay - middle if is_backward else total - middle)
        return cls(inner, torch.exp(middle), torch.exp(whole - middle))


def wide(part: Float[Tensor, "*axes width"]) -> Float[Tensor, "*axes width"]:
    """In float32 at least."""
    return part.float() if part.dtype in (torch.float16, torch.bfloat16) else part


def bounded_sums(
    q: Float[Tensor, "*axes tokens key"],
    k: Float[Tensor, "*axes tokens key"],
    v: Float[Tensor, "*axes tokens value"],
    growths: tuple[Growth, ...],
    past: Bool[Tensor, "size size"] | Float[Tensor, "size size"],
    chunks: Chunks,
) -> Float[Tensor, "*axes tokens value"]:
    """Faded sums by matrix products only; decays of the past, and of the future where there are two.

    The log decays of one chunk must sum to at least -2 `LARGEST_EXPONENT`. Padded tokens have k = 0. `past`
    as truth values where scores of forbidden pairs may overflow; as ones and zeros, which are faster, else.
    """
    reads, writes = q * growths[0].inner, k / growths[0].inner
    scores, others = reads @ writes.transpose(-1, -2), None
    if len(growths) > 1:
        late_reads, late_writes = q / growths[1].inner, k * growths[1].inner
        others = late_reads @ late_writes.transpose(-1, -2)
    seen = past[: q.shape[-2], : q.shape[-2]] if chunks.count == 1 else past
    mixed = _chosen(seen, scores, others) @ v
    if chunks.count > 1:
        mixed = mixed + reads @ _carried(writes, v, growths[0], chunks)
        if len(growths) > 1:
            mixed = mixed + late_reads @ _carried(late_writes, v, growths[1], chunks, is_backward=True)
    return mixed


def _chosen(
    past: Bool[Tensor, "size size"] | Float[Tensor, "size size"],
    scores: Float[Tensor, "*axes size size"],
    others: Float[Tensor, "*axes size size"] | None,
) -> Float[Tensor, "*axes size size"]:
    """Scores of the past, the others (or 0) elsewhere.

    ONNX Runtime takes 49 us to choose among 4 x 128 x 128 numbers and 6 us to multiply them.
    """
    if past.dtype == torch.bool:
        return torch.where(past, scores, 0.0 if others is None else others)
    kept = scores * past.to(scores.dtype)
    return kept if others is None else kept + others * (1.0 - past.to(scores.dtype))


def _carried(
    writes: Float[Tensor, "*cut_axes chunk key"],
    v: Float[Tensor, "*cut_axes chunk value"],
    growth: Growth,
    chunks: Chunks,
    *,
    is_backward: bool = False,
) -> Float[Tensor, "*cut_axes key value"]:
    """What the chunks before every chunk (after it) left, faded to the middle of its decays."""
    first, last = growth.first.transpose(-1, -2), growth.last.transpose(-1, -2)
    enter, leave = (last, first) if is_backward else (first, last)
    sums = leave * (writes.transpose(-1, -2) @ v)
    before = states_before(
        first * last, sums, chunks.rounds, is_backward=is_backward, is_constant=growth.is_constant
    )
    return enter * before


def scalar_sums(
    q: Float[Tensor, "batch heads_or_1 *cut key"],
    k: Float[Tensor, "batch heads_or_1 *cut key"],
    v: Float[Tensor, "batch heads *cut value"],
    log_decays: tuple[Float[Tensor, "batch heads *cut 1"], ...],
    bias: Float[Tensor, "size size"],
    chunks: Chunks,
) -> Float[Tensor, "batch heads *cut value"]:
    """Faded sums of cut tensors with one decay per head and token, however strong.

    Heads may share queries and keys. Exponents are differences of running sums, at most 0; `bias` forbids
    what is not past (`past_bias`). Padded tokens have k = 0 or v = 0, and log decay 0.
    """
    n = q.shape[-2]
    steps = [log_decay.clamp(min=SCALAR_FLOOR) for log_decay in log_decays]
    totals = [step.cumsum(-2) for step in steps]
    exponents = totals[0] - totals[0].transpose(-1, -2)
    if len(steps) > 1:
        before = totals[1] - steps[1]
        # of the two exponents of a pair the one that does not hold for it is at least 0
        exponents = torch.minimum(exponents, before.transpose(-1, -2) - before)
    else:
        exponents = exponents + (bias[:n, :n] if chunks.count == 1 else bias)
    mixed = ((q @ k.transpose(-1, -2)) * torch.exp(exponents)) @ v
    if chunks.count == 1:
        return mixed
    end = totals[0][..., -1:, :]
    sums = (k * torch.exp(end - totals[0])).transpose(-1, -2) @ v
    mixed = mixed + (q * torch.exp(totals[0])) @ states_before(torch.exp(end), sums, chunks.rounds)
    if len(steps) > 1:
        end = totals[1][..., -1:, :]
        sums = (k * torch.exp(before)).transpose(-1, -2) @ v
        states = states_before(torch.exp(end), sums, chunks.rounds, is_backward=True)
        mixed = mixed + (q * torch.exp(end - before)) @ states
    return mixed


def states_before(
    decays: Float[Tensor, "*decay_axes chunks_or_1 key_or_1 value_or_1"],
    sums: Float[Tensor, "*axes chunks key value"],
    rounds: int,
    *,
    is_backward: bool = False,
    is_constant: bool = False,
) -> Float[Tensor, "*axes chunks key value"]:
    """What earlier chunks (later ones) left: S_c = sums_c + decays_c S_{c-1}; the result is S_{c-1}.

    `is_constant`: all chunks have the decays of one.
    """
    if is_backward:
        return states_before(decays.flip(-3), sums.flip(-3), rounds, is_constant=is_constant).flip(-3)
    for step in range(rounds):
        sums = sums + decays * _shifted(sums, 2**step)
        if step + 1 < rounds:
            decays = decays * (decays if is_constant else _shifted(decays, 2**step))
    return _shifted(sums, 1)


def state_after(
    k: Float[Tensor, "batch heads_or_1 *cut key"],
    v: Float[Tensor, "batch heads *cut value"],
    log_decay: Float[Tensor, "batch_or_1 heads *cut key_or_1"],
    chunks: Chunks,
) -> Float[Tensor, "batch heads key value"]:
    """What all tokens of cut tensors leave, each faded by those after it."""
    if chunks.count > 1:
        k, v, log_decay = (part.flatten(2, 3) for part in (k, v, log_decay))
    return (k * torch.exp(_sum_after(log_decay))).transpose(-1, -2) @ v


def selective_state(
    delta: Float[Tensor, "batch tokens width"],
    u: Float[Tensor, "batch tokens width"],
    a: Float[Tensor, "states width"],
    writes: Float[Tensor, "batch tokens states"],
) -> Float[Tensor, "batch states width"]:
    """What all tokens of a selective scan leave."""
    faded = torch.exp(_sum_after(delta)[:, :, None] * a)
    return (faded * (delta * u)[:, :, None] * writes[..., None]).sum(1)


def _sum_after(steps: Float[Tensor, "*axes tokens width"]) -> Float[Tensor, "*axes tokens width"]:
    """Sum over the tokens behind each; from the end, so that late sums, which weigh most, are exact."""
    return steps.flip(-2).cumsum(-2).flip(-2) - steps


def past_bias(size: int) -> Float[Tensor, "size size"]:
    """Added to exponents: 0 where a query sees a key, else so small that nothing is left."""
    return torch.full((size, size), FORBIDDEN).triu(1)


def _shifted(
    part: Float[Tensor, "*axes chunks key value"], by: int
) -> Float[Tensor, "*axes chunks key value"]:
    """What chunk c - by had, for every c; the first get zeros. Reads no size: exported ones stay free."""
    return functional.pad(part, (0, 0, 0, 0, by, 0))[..., :-by, :, :]


def sized_chunks(numbers: int, tokens: int) -> Chunks:
    """Chunks whose states, `numbers` for one, just fill the cache: more are slower, fewer are more calls."""
    count = max(1, min(CACHED_STATES // numbers, tokens // 8))
    size = -(-tokens // count)
    return Chunks(size, -(-tokens // size))


def selective_scan(
    delta: Float[Tensor, "batch tokens width"],
    u: Float[Tensor, "batch tokens width"],
    a: Float[Tensor, "states width"],
    writes: Float[Tensor, "batch tokens states"],
    reads: Float[Tensor, "batch tokens states"],
    chunks: Chunks,
) -> Float[Tensor, "batch tokens width"]:
    """y_t = C_t s_t of s_t = exp(delta_t a) * s_{t-1} + delta_t u_t B_t, states [states, width], a < 0.

    Token p of all chunks at once: first what each chunk leaves from an empty state, then, with the states
    before the chunks, the same once more with outputs. Tokens with delta = 0 leave the state as it is.
    """
    parts = (delta, delta * u, reads, writes)
    cut = [torch.unflatten(chunks.filled(part), 1, (-1, chunks.size)) for part in parts]
    steps, inputs, outputs = (torch.split(part, 1, dim=2) for part in cut[:3])
    columns = torch.split(cut[3].transpose(-1, -2), 1, dim=-1)
    decays = [torch.exp(step * a) for step in steps]
    adds = [column * x for column, x in zip(columns, inputs, strict=True)]
    state: Tensor | None = None
    if chunks.count > 1:
        left = adds[0]
        for decay, added in zip(decays[1:], adds[1:], strict=True):
            left = decay * left + added
        whole = torch.exp(cut[0].sum(2, keepdim=True) * a)
        state = states_before(whole, left, chunks.rounds)
    rows = []
    for decay, added, read in zip(decays, adds, outputs, strict=True):
        state = added if state is None else decay * state + added
        rows.append(read @ state)
    return torch.cat(rows, dim=2).flatten(1, 2)[:, : u.shape[1]]
