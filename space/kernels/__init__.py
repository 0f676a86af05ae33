"""Algebra that several mixers share: score biases, masked softmax attention, head layouts."""
