"""Triton kernels, one family a file, each a custom operator of torch with its gradient and a plain twin.

Nothing here is imported before `space.kernels.dispatch` chooses a kernel: importing Triton is slow, and on
machines without it the plain forms run.
"""
