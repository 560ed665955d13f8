"""The loss that the tests of the public contract use, with its arrays."""

from __future__ import annotations

import numpy as np

TEXT = "mean((tanh(X @ w + b) - y)**2)"

RANDOM = np.random.default_rng(20)
X = RANDOM.standard_normal((50, 4))
Y = RANDOM.standard_normal(50)
W, B = RANDOM.standard_normal(4), 0.3
VALUES = {"w": W, "b": B, "X": X, "y": Y}

# of the model a*exp(-b*x) + c[0]
MODEL_TEXT = "a*exp(-b*x) + c[0]"
MODEL = {"a": 2.0, "b": 0.5, "c": np.array([1.0, 0.0]), "x": np.linspace(0, 2, 7)}
