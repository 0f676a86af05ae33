"""Device code of `scan`: states of all chunks, outputs, and their gradients.

    within a chunk   b = running sum of log decays, B its last value
    state            S' = exp(B) S + sum_j exp(B - b_j) k_j v_j^T
    output           o_i = q_i exp(b_i) S + sum_{j <= i} (q_i exp(b_i - b_j) . k_j) v_j

DECAY 0: none, b = 0. 1: one number per head and token. 2: one per key channel, whose factors are taken around
the middle of the chunk's range, exp(b - B/2) and exp(B/2 - b), so that both stay small. States are walked in
order by one program for each head and block of value channels; everything else runs for all chunks at once.
Tokens that are not there have k = q = 0 and do not fade. Programs are counted along one axis, the only one of
a grid that may be longer than 65,535; tokens are placed in 64 bits: a long sequence of wide rows is past 32.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def _place(blocks, chunks):
    """Block of value channels, chunk, and head of a sequence of this program; neighbours share a head."""
    flat = tl.program_id(0)
    return flat % blocks, flat // blocks % chunks, (flat // (blocks * chunks)).to(tl.int64)


@triton.jit
@no_type_check
def _tokens_of(part, t, channel, t_stride, there, width):
    """Rows t of one head, [tokens, channels]; zeros outside."""
    t = t.to(tl.int64)
    inside = there[:, None] & (channel < width)[None, :]
    return tl.load(part + t[:, None] * t_stride + channel[None, :], mask=inside, other=0.0)


@triton.jit
@no_type_check
def _running(decay, t, channel, t_stride, there, width, DECAY: tl.constexpr):
    """b and B of a chunk: [tokens] and a number, or [tokens, channels] and [channels]."""
    if DECAY == 1:
        step = tl.load(decay + t.to(tl.int64) * t_stride, mask=there, other=0.0).to(tl.float32)
    else:
        step = _tokens_of(decay, t, channel, t_stride, there, width).to(tl.float32)
    return tl.cumsum(step, axis=0), tl.sum(step, axis=0)


@triton.jit
@no_type_check
def _faded_state(state, whole, DECAY: tl.constexpr):
    if DECAY == 1:
        state *= tl.exp(whole)
    elif DECAY == 2:
        state *= tl.exp(whole)[:, None]
    return state


@triton.jit
@no_type_check
def _grown(part, exponent, DECAY: tl.constexpr):
    """Rows times exp(exponent), in their own type."""
    factor = tl.exp(exponent)
    if DECAY == 1:
        factor = factor[:, None]
    return (part * factor).to(part.dtype)


@triton.jit
@no_type_check
def states(
    k, v, decay, initial, before, final, tokens, chunks, heads,
    kb, kh, kt, vb, vh, vt, gb, gh, gt, KEY, VALUE,
    HAS_INITIAL: tl.constexpr, DECAY: tl.constexpr, TOKENS: tl.constexpr, KEYS: tl.constexpr,
    VALUES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The state before every chunk, and the one after the last."""
    block, _, bh = _place(tl.cdiv(VALUE, VALUES), 1)
    b, h = bh // heads, bh % heads
    key, value = tl.arange(0, KEYS), block * VALUES + tl.arange(0, VALUES)
    inside = (key < KEY)[:, None] & (value < VALUE)[None, :]
    square = key[:, None] * VALUE + value[None, :]
    state = tl.zeros((KEYS, VALUES), tl.float32)
    if HAS_INITIAL:
        state = tl.load(initial + bh * KEY * VALUE + square, mask=inside, other=0.0).to(tl.float32)
    for c in range(0, chunks):
        own = before + (bh * chunks + c) * KEY * VALUE
        tl.store(own + square, state.to(before.dtype.element_ty), mask=inside)
        t = c * TOKENS + tl.arange(0, TOKENS)
        there = t < tokens
        keys = _tokens_of(k + b * kb + h * kh, t, key, kt, there, KEY)
        values = _tokens_of(v + b * vb + h * vh, t, value, vt, there, VALUE)
        if DECAY > 0:
            running, whole = _running(decay + b * gb + h * gh, t, key, gt, there, KEY, DECAY)
            state = _faded_state(state, whole, DECAY)
            if DECAY == 1:
                keys = _grown(keys, whole - running, DECAY)
            else:
                keys = _grown(keys, whole[None, :] - running, DECAY)
        state += tl.dot(tl.trans(keys), values, input_precision=PRECISION)
    tl.store(final + bh * KEY * VALUE + square, state, mask=inside)


@triton.jit
@no_type_check
def outputs(
    q, k, v, decay, before, o, tokens, chunks, heads,
    qb, qh, qt, kb, kh, kt, vb, vh, vt, gb, gh, gt, ob, oh, ot, KEY, VALUE,
    DECAY: tl.constexpr, TOKENS: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    block, c, bh = _place(tl.cdiv(VALUE, VALUES), chunks)
    b, h = bh // heads, bh % heads
    key, value = tl.arange(0, KEYS), block * VALUES + tl.arange(0, VALUES)
    t = c * TOKENS + tl.arange(0, TOKENS)
    there = t < tokens
    queries = _tokens_of(q + b * qb + h * qh, t, key, qt, there, KEY)
    keys = _tokens_of(k + b * kb + h * kh, t, key, kt, there, KEY)
    values = _tokens_of(v + b * vb + h * vh, t, value, vt, there, VALUE)
    inside = (key < KEY)[:, None] & (value < VALUE)[None, :]
    state_at = before + (bh * chunks + c) * KEY * VALUE + key[:, None] * VALUE + value[None, :]
    state = tl.load(state_at, mask=inside, other=0.0)
    past = t[:, None] >= t[None, :]
    if DECAY == 0:
        scores = tl.where(past, tl.dot(queries, tl.trans(keys), input_precision=PRECISION), 0.0)
    else:
        running, whole = _running(decay + b * gb + h * gh, t, key, gt, there, KEY, DECAY)
        if DECAY == 1:
            fade = tl.exp(tl.where(past, running[:, None] - running[None, :], 0.0))
            scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * fade
        else:
            middle = 0.5 * whole[None, :]
            reads = queries.to(tl.float32) * tl.exp(running - middle)
            writes = keys.to(tl.float32) * tl.exp(middle - running)
            scores = tl.dot(reads, tl.trans(writes), input_precision=PRECISION)
        scores = tl.where(past, scores, 0.0)
        queries = _grown(queries, running, DECAY)
    result = tl.dot(queries, state, input_precision=PRECISION)
    result += tl.dot(scores.to(values.dtype), values, input_precision=PRECISION)
    out = o + b * ob + h * oh + t.to(tl.int64)[:, None] * ot + value[None, :]
    tl.store(out, result.to(o.dtype.element_ty), mask=there[:, None] & (value < VALUE)[None, :])


@triton.jit
@no_type_check
def state_gradients(
    q, do, decay, dfinal, dafter, dinitial, tokens, chunks, heads,
    qb, qh, qt, ob, oh, ot, gb, gh, gt, KEY, VALUE,
    DECAY: tl.constexpr, TOKENS: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of the state after every chunk, and of the initial one."""
    block, _, bh = _place(tl.cdiv(VALUE, VALUES), 1)
    b, h = bh // heads, bh % heads
    key, value = tl.arange(0, KEYS), block * VALUES + tl.arange(0, VALUES)
    inside = (key < KEY)[:, None] & (value < VALUE)[None, :]
    square = key[:, None] * VALUE + value[None, :]
    grad = tl.load(dfinal + bh * KEY * VALUE + square, mask=inside, other=0.0).to(tl.float32)
    for i in range(0, chunks):
        c = chunks - 1 - i
        own = dafter + (bh * chunks + c) * KEY * VALUE
        tl.store(own + square, grad.to(dafter.dtype.element_ty), mask=inside)
        t = c * TOKENS + tl.arange(0, TOKENS)
        there = t < tokens
        queries = _tokens_of(q + b * qb + h * qh, t, key, qt, there, KEY)
        pulled = _tokens_of(do + b * ob + h * oh, t, value, ot, there, VALUE)
        if DECAY > 0:
            running, whole = _running(decay + b * gb + h * gh, t, key, gt, there, KEY, DECAY)
            grad = _faded_state(grad, whole, DECAY)
            queries = _grown(queries, running, DECAY)
        grad += tl.dot(tl.trans(queries), pulled, input_precision=PRECISION)
    tl.store(dinitial + bh * KEY * VALUE + square, grad, mask=inside)


@triton.jit
@no_type_check
def gradients(
    q, k, v, decay, do, before, dafter, dq, dk, dv, drunning, tokens, chunks, heads,
    qb, qh, qt, kb, kh, kt, vb, vh, vt, gb, gh, gt, ob, oh, ot, dqb, dqh, dqt, dvb, dvh, dvt, KEY, VALUE,
    DECAY: tl.constexpr, TOKENS: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of q, k and v, and of the running sums of log decays: q dq - k dk."""
    _, c, bh = _place(1, chunks)
    b, h = bh // heads, bh % heads
    key = tl.arange(0, KEYS)
    t = c * TOKENS + tl.arange(0, TOKENS)
    there = t < tokens
    past = t[:, None] >= t[None, :]
    queries = _tokens_of(q + b * qb + h * qh, t, key, qt, there, KEY)
    keys = _tokens_of(k + b * kb + h * kh, t, key, kt, there, KEY)
    reads, writes, late = queries, keys, keys
    if DECAY > 0:
        running, whole = _running(decay + b * gb + h * gh, t, key, gt, there, KEY, DECAY)
        if DECAY == 1:
            fade = tl.exp(tl.where(past, running[:, None] - running[None, :], 0.0))
            late = _grown(keys, whole - running, DECAY)
        else:
            middle = 0.5 * whole[None, :]
            reads = queries.to(tl.float32) * tl.exp(running - middle)
            writes = keys.to(tl.float32) * tl.exp(middle - running)
            late = _grown(keys, whole[None, :] - running, DECAY)
    scores = tl.dot(reads, tl.trans(writes), input_precision=PRECISION)
    if DECAY == 1:
        scores *= fade
    scores = tl.where(past, scores, 0.0).to(v.dtype.element_ty)
    dscores = tl.zeros((TOKENS, TOKENS), tl.float32)
    read = tl.zeros((TOKENS, KEYS), tl.float32)  # gradient of q exp(b)
    written = tl.zeros((TOKENS, KEYS), tl.float32)  # gradient of k exp(B - b)
    for first in range(0, VALUE, VALUES):
        value = first + tl.arange(0, VALUES)
        inside = (key < KEY)[:, None] & (value < VALUE)[None, :]
        square = (bh * chunks + c) * KEY * VALUE + key[:, None] * VALUE + value[None, :]
        values = _tokens_of(v + b * vb + h * vh, t, value, vt, there, VALUE)
        pulled = _tokens_of(do + b * ob + h * oh, t, value, ot, there, VALUE)
        state = tl.load(before + square, mask=inside, other=0.0)
        grad = tl.load(dafter + square, mask=inside, other=0.0)
        dscores += tl.dot(pulled, tl.trans(values), input_precision=PRECISION)
        read += tl.dot(pulled, tl.trans(state), input_precision=PRECISION)
        written += tl.dot(values, tl.trans(grad), input_precision=PRECISION)
        result = tl.dot(tl.trans(scores), pulled, input_precision=PRECISION)
        result += tl.dot(late, grad, input_precision=PRECISION)
        out = dv + b * dvb + h * dvh + t.to(tl.int64)[:, None] * dvt + value[None, :]
        tl.store(out, result.to(dv.dtype.element_ty), mask=there[:, None] & (value < VALUE)[None, :])
    dscores = tl.where(past, dscores, 0.0)
    if DECAY == 1:
        dscores *= fade
        read *= tl.exp(running)[:, None]
        written *= tl.exp(whole - running)[:, None]
    elif DECAY == 2:
        read *= tl.exp(running)
        written *= tl.exp(whole[None, :] - running)
    dscores = dscores.to(reads.dtype)
    near_read = tl.dot(dscores, writes, input_precision=PRECISION)
    near_written = tl.dot(tl.trans(dscores), reads, input_precision=PRECISION)
    if DECAY == 2:
        near_read *= tl.exp(running - middle)
        near_written *= tl.exp(middle - running)
    read += near_read
    written += near_written
    at = b * dqb + h * dqh + t.to(tl.int64)[:, None] * dqt + key[None, :]
    inside = there[:, None] & (key < KEY)[None, :]
    tl.store(dq + at, read.to(dq.dtype.element_ty), mask=inside)
    tl.store(dk + at, written.to(dk.dtype.element_ty), mask=inside)
    if DECAY > 0:
        change = queries.to(tl.float32) * read - keys.to(tl.float32) * written
        if DECAY == 1:
            tl.store(drunning + bh * tokens + t, tl.sum(change, axis=1), mask=there)
        else:
            tl.store(drunning + (bh * tokens + t[:, None]) * KEY + key[None, :], change, mask=inside)


@triton.jit
@no_type_check
def step(
    q, k, v, decay, state, o, after, heads, qb, qh, kb, kh, vb, vh, gb, gh, KEY, VALUE,
    DECAY: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr,
):  # fmt: skip
    """One token: the state after it, and what its query reads there."""
    block, _, bh = _place(tl.cdiv(VALUE, VALUES), 1)
    b, h = bh // heads, bh % heads
    key, value = tl.arange(0, KEYS), block * VALUES + tl.arange(0, VALUES)
    key_in, value_in = key < KEY, value < VALUE
    inside = key_in[:, None] & value_in[None, :]
    square = bh * KEY * VALUE + key[:, None] * VALUE + value[None, :]
    kept = tl.load(state + square, mask=inside, other=0.0).to(tl.float32)
    if DECAY == 1:
        kept *= tl.exp(tl.load(decay + b * gb + h * gh).to(tl.float32))
    elif DECAY == 2:
        fade = tl.load(decay + b * gb + h * gh + key, mask=key_in, other=0.0).to(tl.float32)
        kept *= tl.exp(fade)[:, None]
    keys = tl.load(k + b * kb + h * kh + key, mask=key_in, other=0.0).to(tl.float32)
    values = tl.load(v + b * vb + h * vh + value, mask=value_in, other=0.0).to(tl.float32)
    queries = tl.load(q + b * qb + h * qh + key, mask=key_in, other=0.0).to(tl.float32)
    kept += keys[:, None] * values[None, :]
    tl.store(after + square, kept.to(after.dtype.element_ty), mask=inside)
    read = tl.sum(queries[:, None] * kept, axis=0)
    tl.store(o + bh * VALUE + value, read.to(o.dtype.element_ty), mask=value_in)
