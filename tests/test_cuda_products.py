"""Matrix products and scatters through shared memory, on the simulated device."""

import numpy as np
import pytest
from device_simulator import SimulatedDevice
from test_cuda import close, use

import symgrad as sg
from symgrad.codegen import cuda_emitter, cuda_layout, cuda_products, cuda_target
from symgrad.codegen.cuda_products import shape_of
from symgrad.runtime import cuda_device, cuda_kernel
from symgrad.schedule import products
from symgrad.schedule.phases import Product

BLOCKS = pytest.mark.parametrize("block", [32, 64])
DTYPES = pytest.mark.parametrize("dtype", ["float64", "float32"])

SOFTMAX = """z = X @ W + b
mean(logsumexp(z, axis=1) - sum(Y*z, axis=1))"""

NETWORK = """h = tanh(tanh(X @ W1 + b1) @ W2 + b2)
mean((h @ w3 + b3 - y)**2)"""

SHAPE = pytest.mark.parametrize(
    ("n", "d", "k"),
    [(1, 30, 9), (33, 8, 32), (40, 65, 11), (70, 129, 10), (200, 17, 70), (65, 64, 64)],
)


@pytest.fixture(autouse=True)
def _few_threads(monkeypatch):
    monkeypatch.setattr(cuda_kernel, "BLOCK", 64)


def softmax(n, d, k):
    g = np.random.default_rng(n * d * k)
    return {
        "W": 0.1 * g.normal(size=(d, k)), "b": g.normal(size=k),
        "X": g.normal(size=(n, d)), "Y": np.eye(k)[g.integers(0, k, n)],
    }  # fmt: skip


def network(n, a, b, c):
    g = np.random.default_rng(n + a)
    return {
        "W1": g.normal(size=(a, b)) / np.sqrt(a), "b1": g.normal(size=b),
        "W2": g.normal(size=(b, c)) / np.sqrt(b), "b2": g.normal(size=c),
        "w3": g.normal(size=c), "b3": np.array(0.3),
        "X": g.normal(size=(n, a)), "y": g.normal(size=n),
    }  # fmt: skip


def on_both(text, wrt, values, dtype="float64"):
    """Value and gradients by the device and by the processor, in one vector each."""
    found = []
    for device in ("cuda", "cpu"):
        f = sg.compile(text, wrt=wrt, device=device, dtype=dtype)
        value, gradient = f.value_and_grad(**values)
        found.append(np.concatenate([[value], *map(np.ravel, gradient.values())]))
    return found


def phases_of(text, wrt, values, dtype="float64"):
    f = sg.compile(text, wrt=wrt, device="cuda", dtype=dtype).specialize(**values)
    kernel = f._main_kernel(f._latest())
    return kernel, [p for s in kernel.plan.passes for p in s.phases]


# --------------------------------------------------------------------------------------
# Products
# --------------------------------------------------------------------------------------


@SHAPE
@BLOCKS
@DTYPES
def test_softmax_around_pieces_and_slabs(monkeypatch, block, dtype, n, d, k):
    monkeypatch.setattr(cuda_kernel, "BLOCK", block)
    use(monkeypatch, processors=2, order=n)
    got, wanted = on_both(SOFTMAX, ["W", "b"], softmax(n, d, k), dtype)
    close(got, wanted, 1e-12 if dtype == "float64" else 1e-5)


@DTYPES
@pytest.mark.parametrize("widths", [(2, 16, 16), (20, 64, 64), (70, 33, 9)])
def test_networks(monkeypatch, widths, dtype):
    found = []
    for order in ("forward", "backward"):
        use(monkeypatch, processors=2, order=order)
        values = network(150, *widths)
        wrt = ["W1", "b1", "W2", "b2", "w3", "b3"]
        got, wanted = on_both(NETWORK, wrt, values, dtype)
        close(got, wanted, 1e-12 if dtype == "float64" else 2e-5)
        found.append(got)
    np.testing.assert_array_equal(*found)


@DTYPES
def test_products_have_the_bits_of_sums_by_one_thread(monkeypatch, dtype):
    values = {"X": softmax(70, 90, 11)["X"], "W": softmax(70, 90, 11)["W"]}
    found = []
    for threshold in (products.PRODUCT, 1 << 60):
        monkeypatch.setattr(products, "PRODUCT", threshold)
        use(monkeypatch)
        m = sg.model("tanh(X @ W)", wrt=["W"], device="cuda", dtype=dtype)
        found.append(m(**values))
    np.testing.assert_array_equal(*found)


def test_the_same_kernel_at_other_lengths(monkeypatch):
    """Products that are planned for some lengths are right for all of them."""
    use(monkeypatch)
    f = sg.compile(SOFTMAX, wrt=["W", "b"], device="cuda")
    g = sg.compile(SOFTMAX, wrt=["W", "b"])
    for n, d in ((90, 100), (7, 70), (130, 1), (5, 200), (3, 0)):
        values = softmax(n, d, 10)
        value, gradient = f.value_and_grad(**values)
        wanted, slopes = g.value_and_grad(**values)
        close(value, wanted, 1e-13)
        for name, slope in slopes.items():
            close(gradient[name], slope, 1e-12)


def test_infinities_stay_in_their_rows(monkeypatch):
    """What fills up slabs is not multiplied with data."""
    use(monkeypatch)
    values = {"X": softmax(40, 67, 9)["X"], "W": softmax(40, 67, 9)["W"]}
    values["X"][39, 66], values["X"][5, 0] = np.inf, np.nan
    values["W"][66, 8] = -np.inf
    for dtype in ("float64", "float32"):
        got = sg.model("X @ W", wrt=["W"], device="cuda", dtype=dtype)(**values)
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(got, values["X"] @ values["W"], rtol=1e-4)


@pytest.mark.parametrize(
    ("text", "values", "forward", "summed"),
    [
        (SOFTMAX, softmax(100, 784, 10), 1, 1),
        (NETWORK, network(100, 2, 16, 16), 2, 0),
        (NETWORK, network(100, 20, 64, 64), 3, 2),
        (NETWORK, network(100, 784, 128, 128), 3, 2),
    ],
    ids=["softmax", "small", "middle", "wide"],
)
def test_which_products_are_shared_out(text, values, forward, summed):
    """Of the layers, and of what comes back through them; and of the gradients."""
    wrt = [name for name in values if name not in ("X", "Y", "y")]
    kernel, phases = phases_of(text, wrt, values)
    assert sum(isinstance(phase, Product) for phase in phases) == forward
    assert sum(len(step.products) for step in kernel.plan.passes) == summed
    assert 8 * kernel.shared <= 48 << 10


@pytest.mark.skipif(cuda_target.assembler() is None, reason="ptxas is not installed")
@DTYPES
def test_kernels_with_products_assemble(monkeypatch, dtype):
    """With 256 threads, as on a device: within what a block may have, unspilled."""
    monkeypatch.setattr(cuda_kernel, "BLOCK", 256)
    values = network(10**5, 20, 64, 64)
    wrt = [name for name in values if name not in ("X", "y")]
    kernel, _ = phases_of(NETWORK, wrt, values, dtype)
    for arch in ("sm_75", "sm_90"):
        used = cuda_target.assemble(kernel.ptx(arch), arch)["pass_0"]
        assert (used.spilled, used.stack) == (0, 0)
        assert used.registers * 256 <= 1 << 16
        assert 0 < used.shared <= 48 << 10


@pytest.mark.parametrize("block", [32, 64, 128, 256])
@pytest.mark.parametrize("across", [1, 2, 9, 10, 16, 25, 64, 100, 128, 1000])
@pytest.mark.parametrize("type", ["double", "float"])
def test_shapes(block, across, type):
    for down in (1, 32, 200, 784):
        shape = shape_of(block, type, down, across)
        assert shape.threads[0] * shape.threads[1] == block
        below, beside = shape.piece
        assert beside >= min(across, 8)
        assert beside < 2 * across or across == 1
        assert below <= max(block, 256)


def test_explain_names_them():
    f = sg.compile(SOFTMAX, wrt=["W", "b"], device="cuda")
    text = f.specialize(**softmax(1000, 784, 10)).explain()
    assert "matrix products of 32 rows at a time in shared memory: 1" in text
    assert "7840 sums as a matrix product in shared memory" in text
    values = factors(100_000, 25, 20)
    f = sg.compile(FACTORS, wrt=["U", "V"], device="cuda").specialize(**values)
    assert "80 sums in shared memory of each block, by atomic additions" in f.explain()


def test_products_need_their_barriers(monkeypatch):
    """Without them results depend on which thread comes first."""
    monkeypatch.setattr(
        cuda_emitter.ThreadEmitter, "barrier", lambda self: None
    )  # of all barriers
    found = []
    for order in ("forward", "backward"):
        use(monkeypatch, order=order)
        f = sg.model("X @ W", wrt=["W"], device="cuda")
        found.append(f(**{k: softmax(70, 90, 11)[k] for k in ("X", "W")}))
    assert not np.array_equal(*found, equal_nan=True)


def test_slabs_do_not_run_into_each_other(monkeypatch):
    """One slab for two: written while other threads still read it."""
    monkeypatch.setattr(
        cuda_products.ProductWriter,
        "_half",
        lambda self, side, half: self.thread.gep(
            self.base, self._const(side.start), "double"
        ),
    )
    found = []
    for order in ("forward", "backward"):
        use(monkeypatch, order=order)
        f = sg.model("X @ W", wrt=["W"], device="cuda")
        found.append(f(**{k: softmax(70, 90, 11)[k] for k in ("X", "W")}))
    assert not np.array_equal(*found)


# --------------------------------------------------------------------------------------
# Scatters
# --------------------------------------------------------------------------------------

FACTORS = "mean((r - sum(U[i] * V[j], axis=1))**2)"


def factors(n, users, films):
    g = np.random.default_rng(n)
    return {
        "U": g.normal(size=(users, 4)), "V": g.normal(size=(films, 4)),
        "i": g.integers(-users, users, n), "j": g.integers(0, films, n),
        "r": g.normal(size=n),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("room", "least", "most"),
    [(2000, 8 * 4 * 45, 8 * 4 * 45), (900, 8 * 4 * 20, 8 * 4 * 25), (0, 0, 0)],
    ids=["both", "one", "none"],
)
def test_targets_that_fit_are_in_shared_memory(monkeypatch, room, least, most):
    values = factors(2000, 25, 20)
    kernel, _ = phases_of(FACTORS, ["U", "V"], values)
    monkeypatch.setattr(cuda_layout, "SHARED_BYTES", 8 * kernel.shared + room)
    device = use(monkeypatch, processors=1, order=3)
    got, agreed = on_both(FACTORS, ["U", "V"], values)
    close(got, agreed, 1e-13)
    assert least <= max(device.shared) <= most


def test_few_rows_do_not_have_targets_of_their_own(monkeypatch):
    device = use(monkeypatch)
    on_both(FACTORS, ["U", "V"], factors(30, 25, 20))
    assert not any(device.shared)


def test_the_device_is_asked_for_shared_memory(monkeypatch):
    from test_cuda_driver import opened

    driver, opening = opened(monkeypatch)
    found = opening()
    found.launch("kernel", 7, 256, np.array([1, 2, 3]), 640)
    assert driver.one("cuLaunchKernel")[0][8] == 640


def test_a_simulated_device_has_no_more_than_others(monkeypatch):
    device = SimulatedDevice()
    monkeypatch.setattr(cuda_device, "_device", device)
    monkeypatch.setattr(cuda_layout, "SHARED_BYTES", 1 << 20)
    with pytest.raises(AssertionError):
        on_both(FACTORS, ["U", "V"], factors(20_000, 2000, 20))
