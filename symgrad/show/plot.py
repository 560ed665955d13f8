"""Plots of fits, with matplotlib (extra ``viz``) but without pyplot's global state."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from symgrad.errors import OptionError, UnsupportedError

_DATA, _CURVE = "#5b7fa6", "#c8402f"


@dataclass(frozen=True)
class Fit:
    """What is drawn of a fitted model.

    ``x``, ``observed``, ``predicted``: float arrays of shape (n,), in any order.
    ``curve``: points (x, y) of the fitted function where it depends on ``x`` alone.
    """

    title: str
    x_name: str
    y_name: str
    x: np.ndarray
    observed: np.ndarray
    predicted: np.ndarray
    curve: tuple[np.ndarray, np.ndarray] | None = None


def check_available(path: Path) -> None:
    """Raise now, before a long fit, if a plot could not be written after it.

    Raises:
        UnsupportedError: there is no matplotlib.
        OptionError: an unknown file type, or no such directory.
    """
    figure = _figure(1)
    known = figure.canvas.get_supported_filetypes()
    suffix = path.suffix.lstrip(".").lower()
    if suffix not in known:
        raise OptionError(
            f"cannot plot to {str(path)!r}: name a file that ends in one of "
            f"{', '.join(sorted(known))}"
        )
    if not path.parent.is_dir():
        raise OptionError(f"cannot plot to {str(path)!r}: no directory {path.parent}")


def plot_fit(path: Path, fit: Fit) -> None:
    """Write data and fitted curve, residuals below, to ``path``."""
    figure = _figure(7)
    above, below = figure.subplots(
        2, sharex=True, gridspec_kw={"height_ratios": (3, 1)}
    )
    above.plot(fit.x, fit.observed, ".", ms=3, color=_DATA, label="data")
    if fit.curve is None:
        above.plot(fit.x, fit.predicted, ".", ms=3, color=_CURVE, label="fit")
    else:
        above.plot(*fit.curve, lw=1, color=_CURVE, label="fit")
    above.set_ylabel(fit.y_name)
    above.set_title(fit.title, fontsize=9, wrap=True)
    above.legend(frameon=False)
    below.plot(fit.x, fit.observed - fit.predicted, ".", ms=3, color=_DATA)
    below.axhline(0, lw=1, color=_CURVE)
    below.set_ylabel("residual")
    below.set_xlabel(fit.x_name)
    _save(figure, path)


def plot_history(path: Path, losses: np.ndarray, title: str, stride: int = 1) -> None:
    """Write the loss at each ``stride``-th step; logarithmic if all are positive."""
    figure = _figure(4)
    axes = figure.subplots()
    values = np.asarray(losses, dtype=np.float64)
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() > 0 and finite.max() > 10 * finite.min():
        axes.set_yscale("log")
    axes.plot(stride * np.arange(values.size), values, lw=1.5, color=_CURVE)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_title(title, fontsize=9, wrap=True)
    _save(figure, path)


def _figure(height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnsupportedError(
            "plots need matplotlib: pip install 'symgrad[viz]'"
        ) from error
    figure = Figure(figsize=(8, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise OptionError(f"cannot write {str(path)!r}: {error}") from error
