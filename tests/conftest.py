"""What all tests have in common."""

import pytest

from symgrad.runtime import kernel


@pytest.fixture(autouse=True)
def _poisoned_memory(monkeypatch):
    """Kernels get memory full of NaN: none may use what it has not written."""
    plain = kernel._aligned

    def poisoned(size):
        memory = plain(size)
        memory.fill(0xFF)
        return memory

    monkeypatch.setattr(kernel, "_aligned", poisoned)
