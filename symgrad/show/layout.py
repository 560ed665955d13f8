"""Places for boxes and the curves between them: a layered layout from left to right.

Source: Sugiyama, Tagawa, Toda, "Methods for visual understanding of hierarchical system
structures", IEEE Trans. SMC 11 (1981) 109: longest-path layers, orders by barycentres,
then coordinates that pull neighbours together while nothing overlaps.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

GAP_X, GAP_Y = 44.0, 16.0
LANE = 10.0  # height that a passing edge takes in a layer
SWEEPS = 12


@dataclass(frozen=True)
class Placement:
    """Centres of the boxes, points that each edge passes, and the size of it all.

    Attributes:
        centres: (x, y) per box.
        routes: per edge (argument, user) the points between its ends, left to right.
        width, height: of the whole.
    """

    centres: list[tuple[float, float]]
    routes: dict[tuple[int, int], list[tuple[float, float]]]
    width: float
    height: float


def place(
    sizes: Sequence[tuple[float, float]], args: Sequence[Sequence[int]]
) -> Placement:
    """Places for boxes of ``sizes``; box k is computed from the boxes ``args[k]``.

    Arguments must come before their users.
    """
    return _Layout(list(sizes), [tuple(dict.fromkeys(a)) for a in args]).placement()


@dataclass
class _Layout:
    """Knots are the boxes, then a knot for each layer that an edge passes."""

    sizes: list[tuple[float, float]]
    args: list[tuple[int, ...]]
    chains: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    def placement(self) -> Placement:
        self.level = self._levels()
        self.left: list[list[int]] = [[] for _ in self.args]
        self.right: list[list[int]] = [[] for _ in self.args]
        self.height = [h for _, h in self.sizes]
        for user, sources in enumerate(self.args):
            for source in sources:
                self._connect(source, user)
        self.layers = self._layers()
        self._reduce_crossings()
        y = self._coordinates()
        x, width = self._columns()
        top = min(y[k] - self.height[k] / 2 for k in range(len(y)))
        bottom = max(y[k] + self.height[k] / 2 for k in range(len(y)))
        point = [(x[self.level[k]], y[k] - top) for k in range(len(y))]
        routes = {e: [point[k] for k in chain] for e, chain in self.chains.items()}
        return Placement(point[: len(self.sizes)], routes, width, bottom - top)

    def _levels(self) -> list[int]:
        """Longest distance to the end: every box as far right as its users allow."""
        level = [0] * len(self.args)
        for user in range(len(self.args) - 1, -1, -1):
            for source in self.args[user]:
                level[source] = max(level[source], level[user] + 1)
        return level

    def _connect(self, source: int, user: int) -> None:
        """An edge, with a knot in each layer between its ends."""
        chain = []
        for level in range(self.level[source] - 1, self.level[user], -1):
            chain.append(len(self.level))
            self.level.append(level)
            self.height.append(LANE)
            self.left.append([])
            self.right.append([])
        self.chains[source, user] = chain
        path = [source, *chain, user]
        for a, b in pairwise(path):
            self.right[a].append(b)
            self.left[b].append(a)

    def _layers(self) -> list[list[int]]:
        """The knots of each level, in the order in which the end meets them."""
        layers: list[list[int]] = [[] for _ in range(max(self.level, default=0) + 1)]
        seen: set[int] = set()
        pending = [len(self.sizes) - 1]
        while pending:
            knot = pending.pop()
            if knot in seen:
                continue
            seen.add(knot)
            layers[self.level[knot]].append(knot)
            pending.extend(reversed(self.left[knot]))
        for knot in range(len(self.level)):  # what the end does not depend on
            if knot not in seen:
                layers[self.level[knot]].append(knot)
        return layers

    # -- order -----------------------------------------------------------------------

    def _reduce_crossings(self) -> None:
        best, fewest = [list(la) for la in self.layers], self._crossings()
        for sweep in range(SWEEPS):
            if fewest == 0:
                break
            self._sweep(leftwards=sweep % 2 == 0)
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(la) for la in self.layers], crossings
        self.layers = best

    def _sweep(self, leftwards: bool) -> None:
        order = self.layers if leftwards else self.layers[::-1]
        near = self.right if leftwards else self.left
        for fixed, layer in pairwise(order):
            rank = {knot: k for k, knot in enumerate(fixed)}
            own = {knot: k for k, knot in enumerate(layer)}

            def key(
                knot: int, rank: dict[int, int] = rank, own: dict[int, int] = own
            ) -> float:
                found = [rank[n] for n in near[knot]]
                return sum(found) / len(found) if found else own[knot]

            layer.sort(key=key)

    def _crossings(self) -> int:
        total = 0
        for fixed, layer in pairwise(self.layers):
            rank = {knot: k for k, knot in enumerate(fixed)}
            passed: list[int] = []
            for knot in layer:
                ends = sorted(rank[n] for n in self.right[knot])
                total += sum(len(passed) - bisect_right(passed, e) for e in ends)
                for end in ends:
                    insort(passed, end)
        return total

    # -- coordinates -----------------------------------------------------------------

    def _coordinates(self) -> list[float]:
        y = [0.0] * len(self.level)
        for layer in self.layers:
            self._settle(layer, y, dict.fromkeys(layer, 0.0))
        for sweep in range(2 * SWEEPS):
            order = self.layers if sweep % 2 == 0 else self.layers[::-1]
            for layer in order:
                self._settle(layer, y, {k: self._wish(k, y, sweep) for k in layer})
        return y

    def _wish(self, knot: int, y: Sequence[float], sweep: int) -> float:
        """Where a knot would like to be: level with its neighbours."""
        last = sweep >= 2 * SWEEPS - 2
        near = self.right[knot] if sweep % 2 == 0 else self.left[knot]
        if last or not near:
            near = self.left[knot] + self.right[knot]
        return sum(y[n] for n in near) / len(near) if near else y[knot]

    def _settle(
        self, layer: Sequence[int], y: list[float], wish: dict[int, float]
    ) -> None:
        """The places nearest to the wishes, in squares, that keep order and distance.

        With z = y minus the least offset this is isotonic regression, solved by pooling
        adjacent violators.
        """
        offset, offsets = 0.0, []
        for k, knot in enumerate(layer):
            if k:
                before = self.height[layer[k - 1]]
                offset += (before + self.height[knot]) / 2 + GAP_Y
            offsets.append(offset)
        pools: list[tuple[float, int]] = []  # mean and number of knots
        for knot, shift in zip(layer, offsets, strict=True):
            mean, size = wish[knot] - shift, 1
            while pools and pools[-1][0] > mean:
                other, count = pools.pop()
                mean = (mean * size + other * count) / (size + count)
                size += count
            pools.append((mean, size))
        means = [mean for mean, size in pools for _ in range(size)]
        for knot, mean, shift in zip(layer, means, offsets, strict=True):
            y[knot] = mean + shift

    def _columns(self) -> tuple[list[float], float]:
        """The centre of each level, and the whole width; the end is on the right."""
        boxes = len(self.sizes)
        widths = [
            max((self.sizes[k][0] for k in layer if k < boxes), default=0.0)
            for layer in self.layers
        ]
        x = [0.0] * len(widths)
        reach = 0.0
        for level in range(len(widths) - 1, -1, -1):
            x[level] = reach + widths[level] / 2
            reach += widths[level] + GAP_X
        return x, reach - GAP_X
