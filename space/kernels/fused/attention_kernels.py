"""Device code of `attention`: outputs, and the gradients by queries and by keys.

    s_ij = scale q_i . k_j          P = softmax_j(s) over the keys with -ahead <= i - j <= back
    CLIPPED: P' = min(max((1 - gamma) P + gamma, 0), 1), else P' = P         o_i = sum_j P'_ij v_j

    dP'_ij = do_i . v_j     dP = (1 - gamma) dP' where not cut     delta_i = sum_j P_ij dP_ij
    ds = P (dP - delta)     dq = scale ds k     dk = scale ds^T q     dv = P'^T do

Keys outside the window are never loaded. Clipping needs the finished softmax, so that clipped rows are read
twice: once for the sums, once for the weights. Programs are counted along one axis, the only one of a grid
that may be longer than 65,535.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def _place(tiles):
    """Tile of tokens, and head of a sequence of this program; neighbours share a head."""
    return tl.program_id(0) % tiles, (tl.program_id(0) // tiles).to(tl.int64)


@triton.jit
@no_type_check
def _rows(part, t, channel, t_stride, tokens, width):
    """Rows t of one head; they are placed in 64 bits: a long sequence of wide rows is past 32."""
    inside = (t < tokens)[:, None] & (channel < width)[None, :]
    return tl.load(part + t.to(tl.int64)[:, None] * t_stride + channel[None, :], mask=inside, other=0.0)


@triton.jit
@no_type_check
def _permitted(i, j, tokens, back, ahead):
    behind = i[:, None] - j[None, :]
    return (behind <= back) & (behind >= -ahead) & (i < tokens)[:, None] & (j < tokens)[None, :]


@triton.jit
@no_type_check
def _scores(queries, keys, seen, scale, PRECISION: tl.constexpr):
    scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * scale
    return tl.where(seen, scores, float("-inf"))


@triton.jit
@no_type_check
def _weights(scores, lse, gamma, CLIPPED: tl.constexpr):
    """P, P', and where P' follows P."""
    p = tl.exp(scores - lse)
    stretched = p
    if CLIPPED:
        stretched = (1.0 - gamma) * p + gamma
    follows = (stretched >= 0.0) & (stretched <= 1.0)
    return p, tl.minimum(tl.maximum(stretched, 0.0), 1.0), follows


@triton.jit
@no_type_check
def _pulled_scores(p, follows, dweights, delta, gamma, CLIPPED: tl.constexpr):
    """Gradient of the scores."""
    dp = dweights
    if CLIPPED:
        dp = tl.where(follows, (1.0 - gamma) * dweights, 0.0)
    return p * (dp - delta[:, None])


@triton.jit
@no_type_check
def forward(
    q, k, v, gamma, o, lse, tokens, heads, groups, back, ahead, scale,
    qb, qh, qt, kb, kh, kt, vb, vh, vt, ob, oh, ot, WIDTH,
    CLIPPED: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    tile, bh = _place(tl.cdiv(tokens, QUERIES))
    b, h = bh // heads, bh % heads
    group = h * groups // heads
    channel = tl.arange(0, CHANNELS)
    i = tile * QUERIES + tl.arange(0, QUERIES)
    queries = _rows(q + b * qb + h * qh, i, channel, qt, tokens, WIDTH)
    k += b * kb + group * kh
    v += b * vb + group * vh
    first = tl.maximum(tile * QUERIES - back, 0) // KEYS * KEYS
    end = tl.minimum(tokens, (tile + 1) * QUERIES + ahead)
    largest = tl.full((QUERIES,), -1e30, tl.float32)  # finite: rows past the end have no key
    total = tl.zeros((QUERIES,), tl.float32)
    result = tl.zeros((QUERIES, CHANNELS), tl.float32)
    for start in range(first, end, KEYS):
        j = start + tl.arange(0, KEYS)
        keys = _rows(k, j, channel, kt, tokens, WIDTH)
        scores = _scores(queries, keys, _permitted(i, j, tokens, back, ahead), scale, PRECISION)
        top = tl.maximum(largest, tl.max(scores, axis=1))
        fade = tl.exp(largest - top)
        p = tl.exp(scores - top[:, None])
        total = total * fade + tl.sum(p, axis=1)
        largest = top
        if not CLIPPED:
            values = _rows(v, j, channel, vt, tokens, WIDTH)
            result = result * fade[:, None]
            result += tl.dot(p.to(values.dtype), values, input_precision=PRECISION)
    total = tl.where(total > 0.0, total, 1.0)
    sums = largest + tl.log(total)
    tl.store(lse + bh * tokens + i, sums, mask=i < tokens)
    if CLIPPED:
        stretch = tl.load(gamma).to(tl.float32)
        for start in range(first, end, KEYS):
            j = start + tl.arange(0, KEYS)
            keys = _rows(k, j, channel, kt, tokens, WIDTH)
            values = _rows(v, j, channel, vt, tokens, WIDTH)
            scores = _scores(queries, keys, _permitted(i, j, tokens, back, ahead), scale, PRECISION)
            _, weights, _ = _weights(scores, sums[:, None], stretch, CLIPPED)
            result += tl.dot(weights.to(values.dtype), values, input_precision=PRECISION)
    else:
        result /= total[:, None]
    at = b * ob + h * oh + i.to(tl.int64)[:, None] * ot + channel[None, :]
    inside = (i < tokens)[:, None] & (channel < WIDTH)[None, :]
    tl.store(o + at, result.to(o.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def by_queries(
    q, k, v, gamma, o, do, lse, dq, delta, tokens, heads, groups, back, ahead, scale,
    qb, qh, qt, kb, kh, kt, vb, vh, vt, ob, oh, ot, pb, ph, pt, dqb, dqh, dqt, WIDTH,
    CLIPPED: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of queries, and delta of every query."""
    tile, bh = _place(tl.cdiv(tokens, QUERIES))
    b, h = bh // heads, bh % heads
    group = h * groups // heads
    channel = tl.arange(0, CHANNELS)
    i = tile * QUERIES + tl.arange(0, QUERIES)
    queries = _rows(q + b * qb + h * qh, i, channel, qt, tokens, WIDTH)
    pulled = _rows(do + b * pb + h * ph, i, channel, pt, tokens, WIDTH)
    sums = tl.load(lse + bh * tokens + i, mask=i < tokens, other=0.0)[:, None]
    k += b * kb + group * kh
    v += b * vb + group * vh
    first = tl.maximum(tile * QUERIES - back, 0) // KEYS * KEYS
    end = tl.minimum(tokens, (tile + 1) * QUERIES + ahead)
    stretch = 0.0
    if CLIPPED:
        stretch = tl.load(gamma).to(tl.float32)
        along = tl.zeros((QUERIES,), tl.float32)
        for start in range(first, end, KEYS):
            j = start + tl.arange(0, KEYS)
            keys = _rows(k, j, channel, kt, tokens, WIDTH)
            values = _rows(v, j, channel, vt, tokens, WIDTH)
            scores = _scores(queries, keys, _permitted(i, j, tokens, back, ahead), scale, PRECISION)
            p, _, follows = _weights(scores, sums, stretch, CLIPPED)
            dweights = tl.dot(pulled, tl.trans(values), input_precision=PRECISION)
            along += tl.sum(tl.where(follows, (1.0 - stretch) * dweights * p, 0.0), axis=1)
    else:
        attended = _rows(o + b * ob + h * oh, i, channel, ot, tokens, WIDTH)
        along = tl.sum(attended.to(tl.float32) * pulled.to(tl.float32), axis=1)
    tl.store(delta + bh * tokens + i, along, mask=i < tokens)
    result = tl.zeros((QUERIES, CHANNELS), tl.float32)
    for start in range(first, end, KEYS):
        j = start + tl.arange(0, KEYS)
        keys = _rows(k, j, channel, kt, tokens, WIDTH)
        values = _rows(v, j, channel, vt, tokens, WIDTH)
        scores = _scores(queries, keys, _permitted(i, j, tokens, back, ahead), scale, PRECISION)
        p, _, follows = _weights(scores, sums, stretch, CLIPPED)
        dweights = tl.dot(pulled, tl.trans(values), input_precision=PRECISION)
        dscores = _pulled_scores(p, follows, dweights, along, stretch, CLIPPED)
        result += tl.dot(dscores.to(keys.dtype), keys, input_precision=PRECISION)
    at = b * dqb + h * dqh + i.to(tl.int64)[:, None] * dqt + channel[None, :]
    inside = (i < tokens)[:, None] & (channel < WIDTH)[None, :]
    tl.store(dq + at, (result * scale).to(dq.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def by_keys(
    q, k, v, gamma, do, lse, delta, dk, dv, tokens, heads, groups, back, ahead, scale,
    qb, qh, qt, kb, kh, kt, vb, vh, vt, pb, ph, pt, dkb, dkh, dkt, WIDTH,
    CLIPPED: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of keys and values, those of all query heads of a group."""
    tile, bg = _place(tl.cdiv(tokens, KEYS))
    b, group = bg // groups, bg % groups
    channel = tl.arange(0, CHANNELS)
    j = tile * KEYS + tl.arange(0, KEYS)
    keys = _rows(k + b * kb + group * kh, j, channel, kt, tokens, WIDTH)
    values = _rows(v + b * vb + group * vh, j, channel, vt, tokens, WIDTH)
    first = tl.maximum(tile * KEYS - ahead, 0) // QUERIES * QUERIES
    end = tl.minimum(tokens, (tile + 1) * KEYS + back)
    stretch = 0.0
    if CLIPPED:
        stretch = tl.load(gamma).to(tl.float32)
    key_grad = tl.zeros((KEYS, CHANNELS), tl.float32)
    value_grad = tl.zeros((KEYS, CHANNELS), tl.float32)
    for member in range(0, heads // groups):
        h = group * (heads // groups) + member
        row = (b * heads + h) * tokens
        for start in range(first, end, QUERIES):
            i = start + tl.arange(0, QUERIES)
            queries = _rows(q + b * qb + h * qh, i, channel, qt, tokens, WIDTH)
            pulled = _rows(do + b * pb + h * ph, i, channel, pt, tokens, WIDTH)
            sums = tl.load(lse + row + i, mask=i < tokens, other=0.0)[:, None]
            along = tl.load(delta + row + i, mask=i < tokens, other=0.0)
            scores = _scores(queries, keys, _permitted(i, j, tokens, back, ahead), scale, PRECISION)
            p, weights, follows = _weights(scores, sums, stretch, CLIPPED)
            value_grad += tl.dot(tl.trans(weights.to(pulled.dtype)), pulled, input_precision=PRECISION)
            dweights = tl.dot(pulled, tl.trans(values), input_precision=PRECISION)
            dscores = _pulled_scores(p, follows, dweights, along, stretch, CLIPPED)
            key_grad += tl.dot(tl.trans(dscores.to(queries.dtype)), queries, input_precision=PRECISION)
    at = b * dkb + group * dkh + j.to(tl.int64)[:, None] * dkt + channel[None, :]
    inside = (j < tokens)[:, None] & (channel < WIDTH)[None, :]
    tl.store(dk + at, (key_grad * scale).to(dk.dtype.element_ty), mask=inside)
    tl.store(dv + at, value_grad.to(dv.dtype.element_ty), mask=inside)
