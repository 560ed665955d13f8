"""Tests keep compiled kernels in a directory of their own."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYMGRAD_CACHE", str(tmp_path_factory.mktemp("kernels")))
        patch.delenv("SYMGRAD_CACHE_SIZE", raising=False)
        yield
