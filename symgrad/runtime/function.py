"""Compiled losses: what ``sg.compile`` returns."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgrad import graph
from symgrad.errors import (
    ArgumentError,
    DataError,
    DataWarning,
    ShapeError,
    warn,
)
from symgrad.language.syntax import same
from symgrad.runtime import threads
from symgrad.runtime.arrays import as_parameter, by_name, first_bad
from symgrad.runtime.derivatives import (
    gradient_kernel,
    gradient_nodes,
    hvp_kernel,
    value_kernel,
)
from symgrad.runtime.kernel import Kernel
from symgrad.runtime.objective import Objective
from symgrad.runtime.phantoms import empty_like_shapes
from symgrad.runtime.repeat import Repeat
from symgrad.runtime.specialise import (
    DIRECTION,
    Arrays,
    Source,
    Specialisation,
    Specialiser,
)

Gradient = dict[str, NDArray[Any]]


def _options(source: Source) -> tuple[Any, ...]:
    return source.wrt, source.dtype, source.threads, source.device


class Compiled:
    """What compiled losses and models share: the source and its specialisations."""

    _tensor = False

    def __init__(self, source: Source) -> None:
        self._source = source
        self._specialiser = Specialiser(source, self._tensor)

    @property
    def wrt(self) -> tuple[str, ...]:
        """The names of the parameters, in order."""
        return self._source.wrt

    @property
    def dtype(self) -> str:
        """The compute type."""
        return self._source.dtype

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the source and the options; kernels are compiled again."""
        return type(self), (self._source,)

    def __eq__(self, other: object) -> bool:
        """Equal if they compile the same program with the same options."""
        if type(self) is not type(other):
            return NotImplemented
        assert isinstance(other, Compiled)
        a, b = self._source, other._source
        return _options(a) == _options(b) and same(a.program, b.program)

    def __hash__(self) -> int:
        return hash((type(self), self.wrt, self.dtype))

    def __repr__(self) -> str:
        head = self._source.head
        return f"<symgrad {type(self).__name__} {head!r} wrt {list(self.wrt)}>"

    def _workers(self) -> int:
        return self._source.threads or threads.default_threads()

    def _prepare(self, values: Mapping[str, Any]) -> tuple[Specialisation, Arrays]:
        arrays = self._specialiser.arrays(values)
        return self._specialiser.match(arrays), arrays

    def _call(
        self, found: Specialisation, kernel: Kernel, arrays: Arrays
    ) -> list[NDArray[np.float64]]:
        """Run a kernel; one float64 array per output."""
        context = found.context(kernel, arrays)
        outs = [np.empty(context.shape(node)) for node in kernel.outputs]
        names = kernel.layout.parameters()
        context([arrays[name] for name in names], outs, self._workers())
        return outs

    def _blame(self, arrays: Arrays, what: str) -> None:
        """After a result that is not finite: name the data at fault, if any."""
        for name, array in arrays.items():
            if array.size == 0 and name not in self.wrt:
                warn(f"{name} is empty: it has shape {array.shape}", DataWarning)
                return
            bad = None if name in self.wrt else first_bad(array)
            if bad is not None:
                place, value = bad
                position = f"[{', '.join(map(str, place))}]" if place else ""
                raise DataError(
                    f"the {what} is not finite because {name}{position} is {value}; "
                    "remove such rows, or mask them with where(isfinite(...), ..., 0)"
                )

    # -- looking inside --------------------------------------------------------------

    def specialize(self, /, **values_or_shapes: Any) -> Any:
        """Compile now for these values or shapes (tuples); runs nothing.

        Returns the object itself.
        """
        source = self._source
        values = empty_like_shapes(
            values_or_shapes, source.wrt, source.dtype, source.program
        )
        found, _ = self._prepare(values)
        self._main_kernel(found)
        return self

    def _main_kernel(self, found: Specialisation) -> Kernel:
        raise NotImplementedError

    def _latest(self) -> Specialisation:
        found = self._specialiser.latest
        if found is None:
            raise ArgumentError(
                "nothing is compiled yet, because ranks and dtypes are not known: call "
                "the function once, or specialize(...) with values or shapes"
            )
        return found

    @property
    def llvm(self) -> str:
        """LLVM IR of the kernel used last."""
        return self._main_kernel(self._latest()).llvm

    @property
    def asm(self) -> str:
        """Assembly of the kernel used last."""
        return self._main_kernel(self._latest()).asm

    @property
    def ptx(self) -> str:
        """PTX of the kernel used last, for the GPU if one is in use, else for sm_75,
        which runs on all later ones. Needs no GPU."""
        return self.ptx_for()

    def ptx_for(self, arch: str | None = None) -> str:
        """PTX of the kernel used last for an architecture, such as "sm_90".

        Raises:
            ArgumentError: nothing is compiled yet.
            DeviceError: unknown architecture.
        """
        from symgrad.runtime.cuda_ptx import ptx_of

        return ptx_of(self._main_kernel(self._latest()), self._latest(), arch)

    @property
    def source(self) -> str:
        """The kernel used last as runnable Numba Python."""
        from symgrad.codegen.numba_source import kernel_source

        kernel = self._main_kernel(self._latest())
        plan, layout = kernel.row_by_row()
        return kernel_source(plan, layout, kernel.order, self._source.text)

    @property
    def rewrites(self) -> list[Any]:
        """What simplification did: records of rule, before and after."""
        return list(self._latest().rewrites)

    @property
    def expr(self) -> Any:
        """The expression in SymPy: index notation once ranks are known."""
        from symgrad.language.graph_to_sympy import graph_to_sympy
        from symgrad.language.sympy_bridge import to_sympy

        found = self._specialiser.latest
        if found is None:
            return to_sympy(self._source.program)
        node = graph.array(found.indices, found.value) if found.indices else found.value
        return graph_to_sympy(node).expression

    def latex(self) -> str:
        """The expression in LaTeX."""
        import sympy

        return sympy.latex(self.expr)

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def explain(
        self,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        kernel: str | None = None,
        **named: Any,
    ) -> str:
        """What the kernel does: passes over the data, bytes and flops per row, and the
        roofline, which is the least time that this machine needs for them.

        With values, as one dict or by name, the kernel is timed and the text says what
        share of the roofline it achieves. This measures the machine
        unless that was done before (the figures are kept in the cache directory).
        ``kernel`` names another than the one with all derivatives, such as "value" or
        "hvp".

        Raises:
            ArgumentError: nothing is compiled yet and there are no values; or there is
                no such kernel, or it takes more than the values.
        """
        from symgrad.runtime.explain import explain

        given = None if values is None and not named else _merged(values, named)
        return explain(self, given, kernel=kernel)

    def _makers(self) -> dict[str, Callable[[Specialisation], Kernel]]:
        """Kernels beside the main one, by the names that ``explain`` takes."""
        return {}

    def _timed(
        self, name: str | None, values: Mapping[str, Any], /
    ) -> Callable[[], None]:
        """A call of a kernel (None: the one with all derivatives) with these arrays."""
        found, arrays = self._prepare(values)
        kernel = self._main_kernel(found)
        make = self._makers().get(name or "")
        if make is not None:
            kernel = make(found)
        elif name:
            kernel = found.kernels.get(name, kernel)
        names = kernel.layout.parameters()
        if not kernel.layout.inputs.keys() <= arrays.keys():
            raise ArgumentError(
                f"the kernel {name!r} takes more than the arrays of the loss, so it is "
                "not timed: leave out the values"
            )
        context = found.context(kernel, arrays)
        outs = [np.empty(context.shape(node)) for node in kernel.outputs]
        given, workers = [arrays[name] for name in names], self._workers()
        return lambda: context(given, outs, workers)


class Loss(Compiled):
    """A scalar loss with its compiled gradient. Made by :func:`symgrad.compile`.

    Arrays are passed by name. Parameters may have any shape; their gradients have the
    same shapes and the compute dtype.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._repeat_value: Repeat | None = None
        self._repeat_both: Repeat | None = None

    def __call__(self, /, **values: Any) -> float:
        """The loss.

        Raises:
            ArgumentError: a parameter is missing, or a value is not used.
            UnknownNameError: data are missing.
            ShapeError: shapes do not fit.
            DTypeError: an array that is not real numbers.
            DataError: the result is NaN because of NaN in the data.
        """
        if self._repeat_value is not None:
            quick = self._repeat_value.value(values)
            if quick is not None:
                self._specialiser.note(*self._repeat_value.served)
                return quick
        found, arrays = self._prepare(values)
        kernel = value_kernel(found)
        value = float(self._call(found, kernel, arrays)[0])
        if not np.isfinite(value):
            self._blame(arrays, "loss")
        self._repeat_value = self._repeat(found, kernel, values, arrays)
        return value

    def value_and_grad(self, /, **values: Any) -> tuple[float, Gradient]:
        """The loss and its gradient, by name, from one call of one kernel."""
        if self._repeat_both is not None:
            quick = self._repeat_both.value_and_grad(values)
            if quick is not None:
                self._specialiser.note(*self._repeat_both.served)
                return quick
        found, arrays = self._prepare(values)
        kernel = self._main_kernel(found)
        outs = self._call(found, kernel, arrays)
        value = float(outs[0])
        if not np.isfinite(value):
            self._blame(arrays, "loss")
        self._repeat_both = self._repeat(found, kernel, values, arrays)
        return value, self._named(outs[1:])

    def _repeat(
        self,
        found: Specialisation,
        kernel: Kernel,
        values: Mapping[str, Any],
        arrays: Arrays,
    ) -> Repeat | None:
        """For the next call, if it is like this one; None for large losses."""
        if any(name not in arrays for name in values):
            return None  # spelled otherwise
        lengths = found.lengths(arrays)
        assert lengths is not None
        sized = kernel.sized(lengths)
        if not sized.is_small(self._workers()):
            return None
        return Repeat(found, sized, values, arrays)

    def grad(self, /, **values: Any) -> Gradient:
        """The gradient by name, in the order of ``wrt``."""
        return self.value_and_grad(**values)[1]

    def _named(self, outs: list[NDArray[np.float64]]) -> Gradient:
        dtype = np.dtype(self.dtype)
        arrays = (out.astype(dtype, copy=False) for out in outs)
        return dict(zip(self.wrt, arrays, strict=True))

    def hvp(self, direction: Mapping[str, Any], /, **values: Any) -> Gradient:
        """The Hessian times ``direction``: a dict of arrays shaped as parameters."""
        found, arrays = self._prepare(values)
        kernel = hvp_kernel(found)
        arrays |= direction_arrays(self.wrt, direction, arrays)
        outs = self._call(found, kernel, arrays)
        if not all(np.isfinite(out).all() for out in outs):
            self._blame(arrays, "Hessian product")
        return self._named(outs)

    def hessian(self, /, **values: Any) -> NDArray[np.float64]:
        """Second derivatives (P, P) over the flat vector, in ``pack`` order."""
        arrays = self._specialiser.arrays(values)
        parameters = {name: arrays.pop(name) for name in self.wrt}
        bound = Objective(self._specialiser, arrays, parameters, False, hoist=False)
        matrix = bound.hessian(bound.pack(parameters))
        if not np.isfinite(matrix).all():
            self._blame(arrays, "Hessian")
        return matrix

    def bind(
        self, parameters: Mapping[str, Any] | None = None, /, **data: Any
    ) -> Objective:
        """Fix the data once: a function of the flat parameter vector.

        The arrays are referenced, not copied, unless they had to be converted. The
        shapes of the parameters come from ``parameters`` or the first ``pack``. Work
        that depends on the data only, such as a mean over the rows, is done once, so
        the arrays must not change as long as the objective is used.

        ``statistics=True`` replaces sums over the data that are quadratic in the
        parameters by sufficient statistics: a linear regression with d columns then
        costs O(d²) an evaluation, whatever the number of rows. The condition of the
        second derivatives is checked, because it is the square of the data's own.
        (If the loss has data of this name, the keyword is that array.)

        Raises:
            ArgumentError: a parameter is among the data, or a name that the expression
                does not use.
            UnsupportedError: statistics of a loss that has none.
            DataError: statistics of nearly dependent columns.
        Warns:
            DataWarning: data that are NaN or infinite, with the first position.
        """
        condense = False
        if "statistics" not in self._source.names:
            condense = bool(data.pop("statistics", False))
        refuse_unknown(self._source, data)
        return Objective(self._specialiser, data, parameters, statistics=condense)

    def _main_kernel(self, found: Specialisation) -> Kernel:
        return gradient_kernel(found)

    def _makers(self) -> dict[str, Callable[[Specialisation], Kernel]]:
        return {"value": value_kernel, "hvp": hvp_kernel}

    @property
    def gradient(self) -> dict[str, Any]:
        """Each gradient as a SymPy expression in index notation."""
        from symgrad.language.graph_to_sympy import graph_to_sympy, size_names

        found = self._latest()
        nodes = gradient_nodes(found)
        sizes = size_names(nodes)  # the same letters in all of them
        return {
            name: graph_to_sympy(node, sizes).expression
            for name, node in zip(self.wrt, nodes[1:], strict=True)
        }

    def check_grad(
        self, values: Mapping[str, Any] | None = None, /, **named: Any
    ) -> dict[str, float]:
        """Largest relative difference of each gradient from an independent derivative.

        Values come as one dict, or by name. The derivative is by central differences
        of the reference interpreter, with Richardson extrapolation; about 1e-8 is as
        good as that can confirm.
        """
        from symgrad.runtime.checks import check_grad

        return check_grad(self, _merged(values, named))

    def check(
        self, values: Mapping[str, Any] | None = None, /, rows: int = 50, **named: Any
    ) -> dict[str, float]:
        """Correct decimal digits of the loss and each gradient at ``values``.

        Values come as one dict, or by name. Evaluated against mpmath with 50 digits,
        on the first ``rows`` rows, or on all where the formula needs them. Where
        terms cancel, digits are relative to what a change of the inputs in their last
        digit makes of the value. NaN where the formula itself is not a number.

        Raises:
            OptionError: ``rows`` is no positive integer.
            UnsupportedError: all rows are needed, and are too many for exact numbers.
        """
        from symgrad.runtime.checks import check

        return check(self, _merged(values, named), rows)


def _merged(values: Any, named: Mapping[str, Any]) -> dict[str, Any]:
    """Values from one dict, and by name."""
    return {**({} if values is None else by_name(values)), **named}


def refuse_unknown(source: Source, data: Mapping[str, Any]) -> None:
    """Refuse data that the program does not mention; parameters are told elsewhere."""
    for name in by_name(data, "data"):
        if name not in source.names and name not in source.wrt:
            near = difflib.get_close_matches(name, [*source.names, "statistics"], 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ArgumentError(f"{name} is not used by the expression{hint}")


def direction_arrays(
    wrt: tuple[str, ...], direction: Mapping[str, Any], arrays: Arrays
) -> Arrays:
    """The inputs of kernels for a direction, checked; a part left out is zero."""
    direction = by_name(direction, "the direction")
    extra = [name for name in direction if name not in wrt]
    if extra:
        raise ArgumentError(
            f"{', '.join(extra)} in the direction: the parameters are {', '.join(wrt)}"
        )
    parts = (_direction_array(name, direction, arrays[name]) for name in wrt)
    return {DIRECTION + name: part for name, part in zip(wrt, parts, strict=True)}


def _direction_array(
    name: str, direction: Mapping[str, Any], like: NDArray[Any]
) -> NDArray[np.float64]:
    if name not in direction:
        return np.zeros(like.shape)
    array = as_parameter(f"direction of {name}", direction[name])
    if array.shape != like.shape:
        raise ShapeError(
            f"the direction of {name} has shape {array.shape}, the parameter "
            f"{like.shape}"
        )
    return array
