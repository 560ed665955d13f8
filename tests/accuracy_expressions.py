"""The expressions of docs/accuracy.md: formulas of public collections and textbooks."""

from __future__ import annotations

import accuracy_analysis
import accuracy_collections
import accuracy_densities
import accuracy_losses

FORMULAS = [
    *accuracy_collections.FORMULAS,
    *accuracy_losses.FORMULAS,
    *accuracy_densities.FORMULAS,
    *accuracy_analysis.FORMULAS,
]
