"""Kernels for a GPU, run thread by thread on the processor.

The simulator runs the text that becomes PTX. Every loss of the tables must agree with
the processor's kernels, whatever the order of blocks and threads.
"""

import numpy as np
import pytest
import test_examples
import test_kernel_ops
from device_simulator import SimulatedDevice, host_text
from test_kernel_ops import DTYPES, ROWS
from test_losses import CASES, EACH, compiled

import symgrad as sg
from symgrad.codegen import cuda_emitter, cuda_passes, cuda_writer
from symgrad.codegen.cuda_module import FEW_PARTIALS
from symgrad.runtime import cuda_device, cuda_kernel
from symgrad.runtime.cuda_arrays import uploaded
from symgrad.runtime.cuda_kernel import CudaKernel
from symgrad.schedule import threads

pytestmark = pytest.mark.filterwarnings(
    "ignore::symgrad.errors.UnusedParameterWarning",
)


@pytest.fixture(autouse=True)
def _few_threads(monkeypatch):
    """Two warps a block: more than one, and quick to simulate."""
    monkeypatch.setattr(cuda_kernel, "BLOCK", 64)


def use(monkeypatch, **options):
    """A simulated device for ``device="cuda"``."""
    device = SimulatedDevice(**options)
    monkeypatch.setattr(cuda_device, "_device", device)
    return device


def close(got, want, relative, absolute=0.0):
    """Relative to the largest element."""
    scale = np.abs(want).max(initial=0.0)
    np.testing.assert_allclose(got, want, rtol=0, atol=relative * scale + absolute)


# --------------------------------------------------------------------------------------
# Every loss, every operation
# --------------------------------------------------------------------------------------


@EACH
def test_losses(monkeypatch, case):
    """Agree with the processor's. The order of threads and blocks makes no bit, but of
    gradients at places that the rows choose, which are added to atomically."""
    f = sg.compile(case.text, wrt=case.wrt, device="cuda")
    for n in (9, 300):
        values = case.values(case.few(n))
        wanted, slopes = compiled(case).value_and_grad(**values)
        found = []
        for order in ("forward", "backward") if n > 9 else (n,):
            use(monkeypatch, processors=2, order=order)
            value, gradient = f.value_and_grad(**values)
            close(value, wanted, 1e-12)
            assert list(gradient) == case.wrt
            for name, slope in slopes.items():
                close(gradient[name], slope, 1e-11, 1e-15)
            found.append(np.concatenate([[value], *map(np.ravel, gradient.values())]))
        if "atomic" not in ways(f._main_kernel(f._latest())):
            np.testing.assert_array_equal(found[0], found[-1])


SINGLE = pytest.mark.parametrize("case", CASES[::3], ids=str)


@SINGLE
def test_losses_in_float32(monkeypatch, case):
    f = sg.compile(case.text, wrt=case.wrt, dtype="float32", device="cuda")
    use(monkeypatch, processors=2, order=3)
    values = case.values(case.few(300))
    wanted, slopes = compiled(case, "float32").value_and_grad(**values)
    value, gradient = f.value_and_grad(**values)
    close(value, wanted, case.single)
    for name, slope in slopes.items():
        close(gradient[name], slope, case.single, 1e-6)


@pytest.mark.parametrize("case", test_examples.CASES, ids=lambda c: c.name)
def test_examples_losses(monkeypatch, case):
    params, data = test_examples.values_of(case)
    values = {**params, **data}
    text = getattr(test_examples.example(case.name), case.loss)
    wrt = list(params)
    wanted, slopes = sg.compile(text, wrt=wrt).value_and_grad(**values)
    use(monkeypatch)
    value, gradient = sg.compile(text, wrt=wrt, device="cuda").value_and_grad(**values)
    close(value, wanted, 1e-12)
    for name, slope in slopes.items():
        close(gradient[name], slope, 1e-11, 1e-15)


class _DeviceKernel:
    """A ``CudaKernel`` with the calls of ``Kernel`` that the tests of operations use,
    on a simulated device."""

    def __init__(self, *arguments):
        self.kernel = CudaKernel(*arguments)
        self.outputs = self.kernel.outputs

    def context(self, data, lengths):
        device = SimulatedDevice()
        placed = {name: uploaded(device, array) for name, array in data.items()}
        context = self.kernel.context(device, lengths, placed)

        def call(_, outs):
            context.start()
            parts, inside = context.results()
            assert inside
            for out, part in zip(outs, parts, strict=True):
                out[...] = part

        call.shape = context.shape
        return call


@pytest.fixture
def _operations_on_device(monkeypatch):
    test_kernel_ops._kernel.cache_clear()
    monkeypatch.setattr(test_kernel_ops, "Kernel", _DeviceKernel)
    yield
    test_kernel_ops._kernel.cache_clear()


@pytest.mark.usefixtures("_operations_on_device")
class TestOperations:
    """Every operation, to its stated error: the checks of the processor's kernels."""

    @DTYPES
    @ROWS
    def test_samples(self, name, dtype):
        test_kernel_ops.test_samples(name, dtype, True)

    @DTYPES
    @ROWS
    def test_edges(self, name, dtype):
        test_kernel_ops.test_edges(name, dtype, True)

    @DTYPES
    @ROWS
    def test_special_values(self, name, dtype):
        test_kernel_ops.test_special_values(name, dtype, True)

    @pytest.mark.parametrize(
        "name", test_kernel_ops.EXACT + test_kernel_ops.COMPARISONS
    )
    def test_integers(self, name):
        test_kernel_ops.test_integers(name, True)


def on_device(text, wrt, values, **options):
    """Value and gradient by a simulated device, and the kernel."""
    f = sg.compile(text, wrt=wrt, device="cuda", **options)
    value, gradient = f.value_and_grad(**values)
    return value, gradient, f._main_kernel(f._latest())


# --------------------------------------------------------------------------------------
# What C's library does elsewhere
# --------------------------------------------------------------------------------------


def computed(monkeypatch, text, **columns):
    use(monkeypatch)
    f = sg.model(text, wrt=[], device="cuda")
    with np.errstate(all="ignore"):
        return f(**columns)


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_large_angles(monkeypatch, name):
    """Reduced by the digits of 2/pi, up to the largest number."""
    import mpmath

    numbers = np.random.default_rng(5)
    x = numbers.choice([-1.0, 1.0], 200) * 2.0 ** numbers.uniform(30, 1024, 200)
    x[:4] = 6381956970095103 * 2.0**797, 2.0**1023, 2.0**30 + 0.5, np.pi * 2.0**40
    got = computed(monkeypatch, f"{name}(x)", x=x)
    with mpmath.workprec(1400):
        for at, value in zip(x, got, strict=True):
            want = getattr(mpmath, name)(mpmath.mpf(float(at)))
            unit = np.spacing(abs(float(want)))
            assert abs(mpmath.mpf(float(value)) - want) <= 3 * unit, at


def test_lgamma(monkeypatch):
    import mpmath

    x = np.concatenate([
        2.0 ** np.arange(-300.0, 1000.0, 13.0), np.linspace(0.01, 12, 401),
        1 + np.logspace(-14, -2, 40), 2 - np.logspace(-14, -2, 40),
    ])  # fmt: skip
    got = computed(monkeypatch, "lgamma(x)", x=x)
    for at, value in zip(x, got, strict=True):
        want = mpmath.loggamma(mpmath.mpf(float(at)))
        unit = np.spacing(abs(float(want)))
        assert abs(mpmath.mpf(float(value)) - want) <= 5 * unit, at


def test_remainders_are_exact(monkeypatch):
    numbers = np.random.default_rng(6)
    x = numbers.normal(size=300) * 2.0 ** numbers.integers(-1070, 1000, 300)
    y = numbers.normal(size=300) * 2.0 ** numbers.integers(-1070, 1000, 300)
    x[:3], y[:3] = (5e-324, 1e308, -7.0), (3e-320, 5e-324, 7.0)
    got = computed(monkeypatch, "mod(x, y)", x=x, y=y)
    np.testing.assert_array_equal(got, np.mod(x, y))


# --------------------------------------------------------------------------------------
# Geometry
# --------------------------------------------------------------------------------------

LOGISTIC = "mean(log(1 + exp(-y * (X @ w + b)))) + 0.01 * sum(w**2)"


def logistic(n, d=5):
    numbers = np.random.default_rng(n)
    return {
        "w": numbers.normal(size=d), "b": 0.3,
        "X": numbers.normal(size=(n, d)), "y": numbers.choice([-1.0, 1.0], n),
    }  # fmt: skip


@pytest.mark.parametrize("block", [32, 64, 256])
@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 64, 65, 2000])
def test_rows_around_warps_and_blocks(monkeypatch, block, n):
    monkeypatch.setattr(cuda_kernel, "BLOCK", block)
    use(monkeypatch, processors=1, order=n)
    values = logistic(n)
    text = LOGISTIC.replace("mean", "sum")
    value, gradient, _ = on_device(text, ["w", "b"], values)
    wanted, slopes = sg.compile(text, wrt=["w", "b"]).value_and_grad(**values)
    close(value, wanted, 1e-13)
    close(gradient["w"], slopes["w"], 1e-13)
    close(gradient["b"], slopes["b"], 1e-13)


def test_results_depend_on_the_device_only_through_rounding(monkeypatch):
    values, found = logistic(3000), []
    for processors in (1, 3, 8):
        use(monkeypatch, processors=processors)
        found.append(on_device(LOGISTIC, ["w", "b"], values)[0])
    close(np.array(found), found[0], 1e-15)


def test_repeated_calls_give_the_same_bits(monkeypatch):
    """The counter of blocks is zero again after every call."""
    device = use(monkeypatch, processors=2)
    f = sg.compile(LOGISTIC, wrt=["w", "b"], device="cuda")
    values = logistic(700)
    first = f.value_and_grad(**values)
    for order in ("backward", 1, 2):
        device.order = order
        value, gradient = f.value_and_grad(**values)
        assert value == first[0]
        np.testing.assert_array_equal(gradient["w"], first[1]["w"])


def ways(kernel):
    """How each sum over rows is kept."""
    steps = kernel.plan.passes
    return {cuda_writer.way(place, step) for step in steps for place in step.sums}


def test_few_sums_stay_in_registers_in_one_launch(monkeypatch):
    use(monkeypatch)
    text = "mean(log(1 + exp(-y * (X @ w + b))))"
    *_, kernel = on_device(text, ["w", "b"], logistic(100))
    assert ways(kernel) == {"register", "array"}
    assert [launch.name for launch in kernel.launches] == ["pass_0"]


def test_many_sums_are_shared_out_tile_by_tile(monkeypatch):
    use(monkeypatch, order=1)
    values = logistic(200, threads.REGISTER_SUMS + 3)
    value, gradient, kernel = on_device(LOGISTIC, ["w", "b"], values)
    assert "tiled" in ways(kernel)
    wanted, slopes = sg.compile(LOGISTIC, wrt=["w", "b"]).value_and_grad(**values)
    close(value, wanted, 1e-13)
    close(gradient["w"], slopes["w"], 1e-13)


def test_very_many_partial_sums_are_combined_by_many_blocks(monkeypatch):
    use(monkeypatch, processors=2, order="backward")
    numbers = np.random.default_rng(0)
    values = {
        "W": numbers.normal(size=(40, 20)), "X": numbers.normal(size=(300, 40)),
        "Y": numbers.normal(size=(300, 20)),
    }  # fmt: skip
    assert values["W"].size > FEW_PARTIALS
    text = "mean((tanh(X @ W) - Y)**2)"
    value, gradient, kernel = on_device(text, ["W"], values)
    assert [k.name.partition("_")[0] for k in kernel.launches] == [
        "pass", "combine", "after",
    ]  # fmt: skip
    wanted, slopes = sg.compile(text, wrt=["W"]).value_and_grad(**values)
    close(value, wanted, 1e-13)
    close(gradient["W"], slopes["W"], 1e-13)


@pytest.mark.parametrize("shape", [(3, 48, 24), (3, 50, 24), (2, 512, 1), (1, 64, 40)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_products_of_matrices_add_several_elements_together(monkeypatch, shape, dtype):
    inputs, hidden, outputs = shape
    use(monkeypatch, processors=2, order=4)
    numbers = np.random.default_rng(3)
    values = {
        "W": numbers.normal(size=(inputs, hidden)),
        "V": 0.1 * numbers.normal(size=(hidden, outputs)),
        "X": numbers.normal(size=(150, inputs)),
    }
    text, wrt = "mean(tanh(tanh(X @ W) @ V)**2)", ["W", "V"]
    value, gradient, _ = on_device(text, wrt, values, dtype=dtype)
    wanted, slopes = sg.compile(text, wrt=wrt, dtype=dtype).value_and_grad(**values)
    tolerance = {"float64": 1e-12, "float32": 1e-4}[dtype]
    close(value, wanted, tolerance)
    for name, slope in slopes.items():
        close(gradient[name], slope, tolerance)


def test_contexts_beyond_the_arguments_of_a_kernel(monkeypatch):
    """Many names: the context is read from memory."""
    use(monkeypatch, order=1)
    names = [f"a{k}" for k in range(520)]
    terms = "".join(f" + {name} * x**{k % 3}" for k, name in enumerate(names))
    text = f"mean((0.0{terms} - y)**2)"
    numbers = np.random.default_rng(2)
    values = {name: numbers.normal() for name in names}
    values |= {"x": numbers.normal(size=70), "y": numbers.normal(size=70)}
    wrt = names[::40]
    value, gradient, kernel = on_device(text, wrt, values)
    assert not kernel.by_value
    wanted, slopes = sg.compile(text, wrt=wrt).value_and_grad(**values)
    close(value, wanted, 1e-12)
    close(np.array([*gradient.values()]), np.array([*slopes.values()]), 1e-12)


def test_float32_sums_are_flushed(monkeypatch):
    """Many equal terms: the error of a thread's sum grows with its length."""
    use(monkeypatch)
    x = np.full(100_000, 0.1, np.float32)
    errors = []
    for rows in (8, 1 << 20):
        monkeypatch.setattr(cuda_passes, "ROWS_PER_FLUSH", rows)
        values = {"a": 1.0, "x": x}
        value, *_ = on_device("sum(a * x)", ["a"], values, dtype="float32")
        errors.append(abs(value / (x.size * float(x[0])) - 1.0))
    assert errors[0] < 1e-7 < errors[1]


# --------------------------------------------------------------------------------------
# The simulator itself
# --------------------------------------------------------------------------------------


def damaged(monkeypatch, method):
    """Kernels emitted without one kind of synchronisation."""
    monkeypatch.setattr(cuda_emitter.ThreadEmitter, method, lambda self: None)


def outcome(monkeypatch, order):
    """The results in some order, or why there are none."""
    use(monkeypatch, order=order)
    try:
        value, gradient, _ = on_device(LOGISTIC, ["w", "b"], logistic(200, 60))
    except AssertionError as error:
        return str(error)
    return [value, *gradient["w"]]


def test_the_simulator_finds_missing_barriers(monkeypatch):
    """Results differ with the order of threads, or some wait for ever."""
    damaged(monkeypatch, "barrier")
    found = [outcome(monkeypatch, order) for order in ("forward", "backward")]
    assert found[0] != found[1] or "wait for ever" in found[0]


def test_the_simulator_finds_barriers_that_some_threads_miss(monkeypatch):
    use(monkeypatch)
    plain = cuda_emitter.ThreadEmitter.barrier

    def partial(self):
        first = self.icmp("slt", self.thread_index(), self.const(5, "i64"))
        self.when(first, lambda: plain(self))

    monkeypatch.setattr(cuda_emitter.ThreadEmitter, "barrier", partial)
    with pytest.raises(AssertionError, match="wait for ever"):
        on_device(LOGISTIC, ["w", "b"], logistic(50))


def test_the_simulator_runs_the_text_of_the_device(monkeypatch):
    use(monkeypatch)
    *_, kernel = on_device(LOGISTIC, ["w", "b"], logistic(50))
    for line in kernel.body.splitlines():
        if line and not line.startswith("define ptx_kernel"):
            assert line in kernel.llvm
            assert line in host_text(kernel)
