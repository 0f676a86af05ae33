"""Peaks of live numbers in the forms of `kernels.scan`, one sequence, counted as `activation_size` says.

Each is the largest of its stages; a stage names what is alive while one operator runs. Factors that exist
once per chunk and head are counted where the scan carries them, else left out.
"""

from .scan import Chunks


def states_peak(chunks: Chunks, tokens: int, *, state: int, decays: int) -> int:
    """Inside `states_before`: sums, their decays and the shifted copy of the last round."""
    count = chunks.whole(tokens) // chunks.size
    return count * (state + decays) + (count + (1 << max(0, chunks.rounds - 1))) * state


def bounded_peak(
    chunks: Chunks, tokens: int, *, key: int, value: int, heads: int, growth: int, ways: int
) -> int:
    """Inside `bounded_sums`: widths of all heads together; `growth`: factors per token and way."""
    cut, pairs = chunks.padded(tokens), heads * chunks.pairs(tokens)
    k, v, factors = cut * key, cut * value, cut * growth
    stages = [2 * k + v + factors, 2 * k + v + pairs, 2 * v + pairs]
    if ways == 2:
        stages += [4 * k + v + 2 * factors, 4 * k + v + factors + pairs, 2 * k + v + 2 * pairs]
    if chunks.count > 1:
        held, state = 2 * ways * k, key * value // heads
        count = cut // chunks.size
        scan = states_peak(chunks, tokens, state=state, decays=0 if growth == 0 else key)
        stages += [
            held + v + ways * pairs,
            held + 2 * v + pairs,
            held + 2 * v + count * state,
            held - k + (1 if ways == 1 else 2) * v + scan,
            held - k + (2 if ways == 1 else 3) * v + count * state,
        ]
    return max(stages)


def scalar_peak(
    chunks: Chunks, tokens: int, *, key: int, value: int, heads: int, shared: bool, ways: int
) -> int:
    """Inside `scalar_sums`: `key` is the width of all heads together, of one where they share it."""
    cut, pairs = chunks.padded(tokens), heads * chunks.pairs(tokens)
    k, v, totals = cut * key, cut * value, cut * heads * ways
    scores = pairs // heads if shared else pairs
    many = chunks.count > 1
    late = cut * heads if ways == 2 else 0  # the sums before each token
    held = totals + late if many else 0
    stages = [
        2 * k + v + totals + late + ways * pairs,
        2 * k + v + held + pairs + scores,
        (2 * k if many else 0) + 2 * v + held + pairs,
    ]
    if many:
        faded = cut * heads * (key if shared else key // heads)
        state = (key if shared else key // heads) * value
        scan = states_peak(chunks, tokens, state=state, decays=heads)
        states = cut // chunks.size * state
        # keys and values are still read by the other direction; without one, a copy in the same shape is free
        kept = k + v if ways == 2 else 0
        copy = faded if shared or ways == 2 else 0
        stages += [
            2 * k + 2 * v + held + cut * heads + copy,
            k + kept + (v if ways == 1 else 0) + v + held + faded + states,
            k + kept + v + held + scan,
            k + kept + v + held + (faded if shared or ways == 2 else 0) + states,
            kept + (k if ways == 2 else 0) + 2 * v + (held if ways == 2 else 0) + faded + states,
        ]
    return max(stages)


def selective_peak(chunks: Chunks, tokens: int, *, width: int, states: int, rank: int) -> int:
    """Inside `selective_scan` with its inputs; the second pass needs every token's decays and inputs."""
    cut = chunks.whole(tokens)
    projected = tokens * (rank + 2 * states) if cut == tokens else 2 * cut * states
    both = 2 * cut * width * states
    inputs = (1 if chunks.count == 1 else 2) * cut * width
    making = tokens * width + inputs + projected + both
    if chunks.count == 1:
        return making
    read = tokens * (rank + 2 * states) if cut == tokens else cut * states
    state = width * states
    scan = states_peak(chunks, tokens, state=state, decays=state)
    return max(making, tokens * width + read + both + scan)
