"""Losses in several notations, the libraries that evaluate them, and the stopwatch.

losses, more     the losses: as a text for symgrad, as a formula for array libraries
contenders       symgrad, PyTorch, JAX and C, each as a function that is timed
kernels/         the C, one file per loss
measure          values and gradients compared, calls timed in turns
report           the table, the picture, and the page in docs
"""
