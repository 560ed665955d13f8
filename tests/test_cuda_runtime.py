"""Arrays, calls and memory on a device, simulated; argument packing and errors."""

import ctypes
import gc
import math
import pickle
import sys
import types

import numpy as np
import pytest
from device_simulator import SimulatedDevice

import symgrad as sg
from symgrad.codegen.cuda_layout import measure_device, parts_of
from symgrad.errors import (
    ArgumentError,
    DataWarning,
    DeviceError,
    DTypeError,
    GatherIndexError,
    ShapeError,
)
from symgrad.runtime import cuda_chunks, cuda_device, cuda_function, cuda_kernel
from symgrad.runtime.cuda_arrays import DeviceArray, on_device

TEXT = "mean((X @ w + b - y)**2)"


@pytest.fixture(autouse=True)
def device(monkeypatch):
    """Two warps a block, two multiprocessors."""
    monkeypatch.setattr(cuda_kernel, "BLOCK", 64)
    simulated = SimulatedDevice(processors=2)
    monkeypatch.setattr(cuda_device, "_device", simulated)
    return simulated


def values(n=200, d=3):
    numbers = np.random.default_rng(n)
    return {
        "w": numbers.normal(size=d), "b": np.array(0.5),
        "X": numbers.normal(size=(n, d)), "y": numbers.normal(size=n),
    }  # fmt: skip


def both(text=TEXT, wrt=("w", "b"), **options):
    """The same loss for the device and for the processor."""
    return (
        sg.compile(text, wrt=list(wrt), device="cuda", **options),
        sg.compile(text, wrt=list(wrt), **options),
    )


class Placed:
    """An array as another library has it on the device."""

    def __init__(self, array, stream=None):
        self.array, self.stream = array, stream

    @property
    def __cuda_array_interface__(self):
        array = self.array
        return {
            "shape": array.shape, "typestr": array.dtype.str, "version": 3,
            "data": (array.ctypes.data, False), "stream": self.stream,
            "strides": None if array.flags.c_contiguous else array.strides,
        }  # fmt: skip


class Exchanged:
    """The same by DLPack only; NumPy's capsule says that the memory is ordinary."""

    def __init__(self, array):
        self.array = array

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, stream=None):
        assert stream == 1
        return self.array.__dlpack__()


# --------------------------------------------------------------------------------------
# Losses, models, objectives
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_all_of_a_loss(dtype):
    f, g = both(dtype=dtype)
    given = values()
    tolerance = {"float64": 1e-13, "float32": 1e-5}[dtype]
    near = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(f(**given), g(**given), **near)
    along = {"w": np.ones(3), "b": 2.0}
    for name, part in g.hvp(along, **given).items():
        np.testing.assert_allclose(f.hvp(along, **given)[name], part, **near)
    np.testing.assert_allclose(f.hessian(**given), g.hessian(**given), **near)
    assert all(part.dtype == dtype for part in f.grad(**given).values())
    assert f != g
    assert f == pickle.loads(pickle.dumps(f))


def test_all_of_a_model():
    text, wrt = "a * exp(-b * x)", ["a", "b"]
    m = sg.model(text, wrt=wrt, device="cuda")
    k = sg.model(text, wrt=wrt)
    given = {"a": 2.0, "b": 0.3, "x": np.linspace(0, 3, 100)}
    np.testing.assert_allclose(m(**given), k(**given), rtol=1e-14)
    for name, block in k.jacobian(**given).items():
        np.testing.assert_allclose(m.jacobian(**given)[name], block, rtol=1e-14)
    along = {"a": 1.0, "b": -1.0}
    np.testing.assert_allclose(m.jvp(along, **given), k.jvp(along, **given), rtol=1e-13)
    seed = np.cos(given["x"])
    for name, part in k.vjp(seed, **given).items():
        np.testing.assert_allclose(m.vjp(seed, **given)[name], part, rtol=1e-13)


def test_all_of_an_objective(device):
    f, g = both()
    given = values()
    data = {k: given[k] for k in ("X", "y")}
    params = {k: given[k] for k in ("w", "b")}
    a, b = f.bind(params, **data), g.bind(params, **data)
    x = a.pack(params)
    held = len(device.held)
    assert a(x) == pytest.approx(b(x), rel=1e-14)
    out = np.empty(4)
    value, gradient = a.value_and_grad(x, out=out)
    assert gradient is out
    assert value == pytest.approx(b(x), rel=1e-14)
    np.testing.assert_allclose(gradient, b.grad(x), rtol=1e-12)
    np.testing.assert_allclose(a.hvp(x, x), b.hvp(x, x), rtol=1e-12)
    np.testing.assert_allclose(a.hessian(x), b.hessian(x), rtol=1e-12)
    rows = np.array([3, 5, 199, 0])
    assert a.batch(rows)(x) == pytest.approx(b.batch(rows)(x), rel=1e-13)
    assert len(device.held) > held
    again = pickle.loads(pickle.dumps(a))
    assert again(x) == a(x)
    assert "pass_0" in a.explain()


def test_what_an_objective_refuses():
    f, _ = both()
    given = values()
    with pytest.raises(ArgumentError, match="w, b is a parameter"):
        f.bind(**given)
    bound = f.bind(X=given["X"], y=given["y"])
    bound.pack({"w": given["w"], "b": 0.0})
    with pytest.raises(ShapeError, match="4 parameters"):
        bound(np.zeros(5))
    with pytest.raises(DeviceError, match="Numba"):
        _ = bound.numba
    with pytest.raises(DeviceError, match="statistics"):
        f.bind(X=given["X"], y=given["y"], statistics=True)
    with pytest.warns(DataWarning, match=r"y\[1\] is nan"):
        f.bind(X=given["X"][:2], y=np.array([0.0, np.nan]))


def test_an_index_out_of_bounds_is_named(device):
    f = sg.compile("sum(u[i]**2)", wrt=["u"], device="cuda")
    with pytest.raises(GatherIndexError, match=r"i\[1\] = 7"):
        f(u=np.ones(5), i=np.array([0, 7]))
    index = np.array([0, 2, 9])
    with pytest.raises(GatherIndexError, match=r"i\[2\] = 9"):
        f(u=np.ones(5), i=Placed(index))
    bound = f.bind(i=index)
    with pytest.raises(GatherIndexError, match=r"i\[2\] = 9"):
        bound(np.ones(5))


# --------------------------------------------------------------------------------------
# Arrays on the device
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [Placed, Exchanged])
@pytest.mark.parametrize("layout", ["C", "F", "strided"])
def test_data_on_the_device_are_used_in_place(device, wrap, layout):
    f, g = both()
    given = values()
    X = np.asarray(given["X"], order="F" if layout == "F" else "C")
    if layout == "strided":
        wide = np.full((400, 6), np.nan)
        wide[::2, ::2] = X
        X = wide[::2, ::2]
    placed = {**given, "X": wrap(X), "y": wrap(given["y"].astype(np.float32))}
    plain = {**given, "y": given["y"].astype(np.float32)}
    moved = []
    upload = device.upload
    device.upload = lambda address, array: (moved.append(array.size),
                                            upload(address, array))  # fmt: skip
    value, gradient = f.value_and_grad(**placed)
    wanted, slopes = g.value_and_grad(**plain)
    assert value == pytest.approx(wanted, rel=1e-13)
    np.testing.assert_allclose(gradient["w"], slopes["w"], rtol=1e-12)
    assert moved == [4]  # the parameters
    X[0, 0] += 1.0
    assert f(**placed) == pytest.approx(g(**{**plain, "X": X}), rel=1e-13)


def test_gradients_come_back_where_the_parameters_are():
    f, g = both()
    given = values()
    value, gradient = f.value_and_grad(**{**given, "w": Placed(given["w"])})
    wanted, slopes = g.value_and_grad(**given)
    assert value == pytest.approx(wanted, rel=1e-14)
    assert isinstance(gradient["w"], DeviceArray)
    for name, slope in slopes.items():
        array = gradient[name]
        host = np.ctypeslib.as_array(
            (ctypes.c_double * slope.size).from_address(
                array.__cuda_array_interface__["data"][0]
            )
        )
        assert array.shape == slope.shape
        np.testing.assert_allclose(host, slope.ravel(), rtol=1e-12)


def test_parameters_of_other_types_are_converted(device):
    f, g = both()
    given = values()
    w = given["w"].astype(np.float32)
    got = f(**{**given, "w": Placed(w)})
    assert got == pytest.approx(g(**{**given, "w": w.astype(float)}), rel=1e-14)


def test_vectors_on_the_device_give_gradients_there(device):
    f, g = both()
    given = values()
    data = {k: Placed(given[k]) for k in ("X", "y")}
    a = f.bind({"w": given["w"], "b": 0.5}, **data)
    x = np.append(given["w"], 0.5)
    value, gradient = a.value_and_grad(Placed(x))
    assert isinstance(gradient, DeviceArray)
    plain = g.bind({"w": given["w"], "b": 0.5}, X=given["X"], y=given["y"])
    assert value == pytest.approx(plain(x), rel=1e-14)
    np.testing.assert_allclose(gradient.download(device), plain.grad(x), rtol=1e-12)
    assert a.batch(slice(0, 50)).rows == 50


def test_streams_of_arrays_are_waited_for(device):
    f, _ = both()
    given = values()
    f(**{**given, "X": Placed(given["X"], stream=7), "w": Placed(given["w"], stream=5)})
    assert {5, 7} <= set(device.waited)


def torch_like(array):
    """A stand-in for PyTorch: what is called of it."""
    module = types.ModuleType("torch")
    module.float64, module.float32 = np.float64, np.float32

    class Tensor(Placed):
        __module__ = "torch"
        device = "cuda:0"
        requires_grad = False

        def data_ptr(self):
            return self.array.ctypes.data

        def detach(self):
            return self

        def contiguous(self):
            return Tensor(np.ascontiguousarray(self.array))

        def to(self, dtype):
            return Tensor(self.array.astype(dtype))

        def __getitem__(self, rows):
            return Tensor(self.array[getattr(rows, "array", rows)])

    module.Tensor = Tensor
    module.empty = lambda shape, dtype, device: Tensor(np.empty(shape, dtype))
    module.as_tensor = lambda rows, device: Tensor(np.asarray(rows))
    module.cuda = types.SimpleNamespace(is_initialized=lambda: False)
    return module, Tensor(array)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_tensors_of_pytorch(monkeypatch, dtype):
    given = values()
    torch, w = torch_like(given["w"].astype(dtype))
    monkeypatch.setitem(sys.modules, "torch", torch)
    f, g = both(dtype=dtype)
    gradient = f.grad(**{**given, "w": w})
    slopes = g.grad(**given)
    assert type(gradient["w"]) is torch.Tensor
    assert gradient["w"].array.dtype == dtype
    np.testing.assert_allclose(gradient["w"].array, slopes["w"], rtol=1e-5)
    bound = f.bind(
        {"w": given["w"], "b": 0.5}, X=torch.Tensor(given["X"]), y=given["y"]
    )
    rows = np.array([1, 4, 100])
    x = np.append(given["w"], 0.5)
    plain = g.bind({"w": given["w"], "b": 0.5}, X=given["X"], y=given["y"])
    np.testing.assert_allclose(bound.batch(rows)(x), plain.batch(rows)(x), rtol=1e-5)


def test_data_that_start_anywhere_are_copied(device):
    """Kernels load several elements at a time, from multiples of 16 bytes."""
    f, g = both()
    given = values()
    moved = np.empty(given["X"].size + 4)
    start = next(k for k in range(2) if (moved.ctypes.data + 8 * k) % 16)
    X = moved[start : start + given["X"].size].reshape(given["X"].shape)
    X[...] = given["X"]
    assert X.ctypes.data % 16 == 8
    copies = []
    copy = device.copy
    device.copy = lambda *arguments: (copies.append(arguments[2]), copy(*arguments))
    assert f(**{**given, "X": Placed(X)}) == pytest.approx(g(**given), rel=1e-13)
    assert copies == [X.nbytes]


@pytest.mark.parametrize("dtype", ["float16", "complex128", "uint64", ">f8"])
def test_elements_that_kernels_cannot_read(dtype):
    with pytest.raises(DTypeError, match="X is"):
        on_device("X", Placed(np.zeros(3, dtype)))


def test_arrays_of_no_device_are_not_taken():
    for value in (1.0, 3, [1, 2], np.zeros(3), None, "x"):
        assert on_device("x", value) is None


@pytest.mark.parametrize("shape", [(4, 3), (0, 3), ()])
def test_downloads(device, shape):
    array = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    backward = array[::-1] if shape else array
    for view in (array, array.T, backward):
        found = on_device("x", Placed(view))
        np.testing.assert_array_equal(found.download(device), view)


# --------------------------------------------------------------------------------------
# Memory
# --------------------------------------------------------------------------------------


def test_memory_does_not_grow(device):
    f, _ = both()
    given = values(50)
    f.value_and_grad(**given)
    gc.collect()
    held, free = len(device.held), device.free_memory()
    for _ in range(30):
        f.value_and_grad(**given)
    gc.collect()
    assert len(device.held) == held
    assert device.free_memory() == free
    del f
    gc.collect()
    assert not device.held


def test_memory_of_objectives_is_freed(device):
    f, _ = both()
    given = values(50)
    bound = f.bind({"w": given["w"], "b": 0.0}, X=given["X"], y=given["y"])
    bound.value_and_grad(np.zeros(4))
    assert device.held
    del bound, f
    gc.collect()
    assert not device.held


def test_a_full_device_says_so(device):
    device.memory = 1 << 10
    f, _ = both()
    with pytest.raises(DeviceError, match="bytes left"):
        f(**values())


def kernel_of(text, wrt, shapes, **options):
    f = sg.compile(text, wrt=wrt, device="cuda", **options).specialize(**shapes)
    return f._main_kernel(f._latest()), f._specialiser.latest_lengths


def test_slots_of_the_context():
    """Lengths, addresses in the work memory, and nothing that overlaps."""
    shapes = {"w": (3,), "b": (), "X": (5000, 3), "y": (5000,)}
    kernel, lengths = kernel_of(TEXT, ["w", "b"], shapes)
    sizes = measure_device(kernel.layout, lengths, kernel.block, 100)
    (step,) = kernel.plan.passes
    assert sizes.blocks[step] == math.ceil(5000 / kernel.block)
    offsets = [v for k, v in sizes.offsets.items() if k[0] != "work"]
    assert len(set(offsets)) == len(offsets)
    assert all(0 <= offset < sizes.bytes for offset in sizes.offsets.values())
    assert {key[0] for key in kernel.layout.slots} >= {"data", "params", "outs", "size"}


def test_blocks_depend_on_lengths_and_device_only():
    shapes = {"w": (3,), "b": (), "X": (10**7, 3), "y": (10**7,)}
    kernel, lengths = kernel_of(TEXT, ["w", "b"], shapes)
    (step,) = kernel.plan.passes
    few = measure_device(kernel.layout, lengths, 256, 10).blocks[step]
    many = measure_device(kernel.layout, lengths, 256, 100).blocks[step]
    assert (few, many) == (40, 400)


def test_large_private_memory_takes_fewer_blocks():
    """A scatter to the same places in all rows, of a size known at run time only."""
    shapes = {"W": (100_000, 3), "X": (50_000, 100_000)}
    kernel, lengths = kernel_of("mean(tanh(X @ W))", ["W"], shapes)
    sizes = measure_device(kernel.layout, lengths, kernel.block, 100)
    assert sizes.bytes < 2 << 30


def test_parts_of_tiles():
    assert [parts_of(n, 256) for n in (1, 100, 256, 257, 0)] == [256, 2, 1, 1, 256]


# --------------------------------------------------------------------------------------
# Data larger than the memory of the device
# --------------------------------------------------------------------------------------

STREAMED = {
    "one pass": (TEXT, ["w", "b"]),
    "many sums": ("mean((tanh(X @ W) - y[:, None])**2)", ["W"]),
    "two passes": ("z = X @ w + b\nsum(exp(z - max(z)) * y)", ["w", "b"]),
    "shifted rows": (
        "sum((X @ w + b)**2) + sum((y[1:] - w[0] * y[:-1])**2)",
        ["w", "b"],
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", STREAMED)
def test_rows_pass_through_in_parts(device, monkeypatch, name, dtype):
    text, wrt = STREAMED[name]
    monkeypatch.setattr(cuda_function, "SMALL_BYTES", 0)
    monkeypatch.setattr(cuda_chunks, "PART_BYTES", 16_000)
    given = {**values(3000), "W": np.random.default_rng(1).normal(size=(3, 30))}
    given = {k: v for k, v in given.items() if k in wrt or k in ("X", "y")}
    f, g = both(text, wrt, dtype=dtype)
    wanted, slopes = g.value_and_grad(**given)
    device.memory = 150_000 if name != "many sums" else 400_000
    monkeypatch.setattr(cuda_chunks, "SHARE", 0.2)
    tolerance = {"float64": 1e-11, "float32": 1e-4}[dtype]
    data = {k: given[k] for k in ("X", "y")}
    bound = f.bind({k: given[k] for k in wrt}, **data)
    results = [
        f.value_and_grad(**given),
        (bound(bound.pack({k: given[k] for k in wrt})), slopes),
    ]
    assert bound._value_context.streamed is not None
    for value, gradient in results:
        assert value == pytest.approx(wanted, rel=tolerance)
        for key, slope in slopes.items():
            near = tolerance * np.abs(slope).max()
            np.testing.assert_allclose(gradient[key], slope, rtol=0, atol=near)


def test_descents_on_data_in_parts(device, monkeypatch):
    monkeypatch.setattr(cuda_chunks, "PART_BYTES", 16_000)
    monkeypatch.setattr(cuda_chunks, "SHARE", 0.2)
    device.memory = 150_000
    given = values(3000)
    options = {
        "init": {"w": np.zeros(3), "b": 0.0}, "steps": 6, "lr": 0.1,
        "data": {k: given[k] for k in ("X", "y")},
    }  # fmt: skip
    found = sg.minimize(TEXT, device="cuda", **options)
    wanted = sg.minimize(TEXT, **options)
    np.testing.assert_allclose(found.x, wanted.x, rtol=1e-11)


def test_data_that_fit_are_copied_once(device):
    f, _ = both()
    given = values()
    bound = f.bind({"w": given["w"], "b": 0.0}, X=given["X"], y=given["y"])
    bound(np.zeros(4))
    assert bound._value_context.streamed is None
