"""The progress bar; tqdm is imported only for one."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any


def progress_bar(method: str, steps: int) -> AbstractContextManager[Any]:
    """A tqdm bar over ``steps``."""
    from tqdm.auto import tqdm

    return tqdm(total=steps, desc=method, unit="step")
