"""PTX without a GPU: written for every operation and every loss, and assembled."""

import re
import subprocess
import sys

import numpy as np
import pytest
import test_examples
from losses import MODELS, SPECIFIED
from test_kernel_ops import DTYPES, ROWS
from test_losses import CASES
from test_ops import argument_types

import symgrad as sg
from symgrad import graph, interpret
from symgrad.codegen import cuda_target
from symgrad.codegen.cuda_target import PTX_VERSIONS, architecture, architecture_of
from symgrad.codegen.layout import ArraySpec
from symgrad.errors import ArgumentError, DeviceError
from symgrad.ops import OPS, apply
from symgrad.runtime.cuda_kernel import CudaKernel

pytestmark = pytest.mark.filterwarnings(
    "ignore::symgrad.errors.UnusedParameterWarning",
)

ASSEMBLER = pytest.mark.skipif(
    cuda_target.assembler() is None, reason="ptxas is not installed"
)
BOTH = ("sm_75", "sm_90")

WANTED = re.compile(
    r"\.extern (?!\.shared)|call\.uni \(retval0\), (sin|cos|exp|log|pow|fmod)"
)
"""What no device has: functions of C's library."""


def checked(text, arch):
    """PTX that names its architecture and needs no other module."""
    major, minor = PTX_VERSIONS[arch]
    assert f".version {major}.{minor}\n" in text
    assert f".target {arch}\n" in text
    assert not WANTED.search(text)
    return text


# --------------------------------------------------------------------------------------
# Every operation, every loss
# --------------------------------------------------------------------------------------


def operation(name, dtype):
    """A kernel that applies one operation to each row."""
    row = OPS[name]
    types = (graph.FLOAT,) if row.types == "order" else argument_types(row)
    index = graph.index(graph.size("x0.0"))
    inputs = [graph.input_(f"x{k}", (index.extent,), t) for k, t in enumerate(types)]
    args = [graph.load(x, [index]) for x in inputs]
    if row.types == "order":
        args.insert(0, graph.const(2))
    root = graph.array((index,), graph.to_float(apply(name, *args)))
    specs = {
        x.name: ArraySpec(np.dtype(interpret.DTYPES[t]).name, True, False)
        for x, t in zip(inputs, types, strict=True)
    }
    return CudaKernel([root], {x.name: x for x in inputs}, specs, dtype, {})


@DTYPES
@ROWS
def test_operations(name, dtype):
    kernel = operation(name, dtype)
    arch = {"float64": "sm_90", "float32": "sm_75"}[dtype]
    text = checked(kernel.ptx(arch), arch)
    if cuda_target.assembler() is not None:
        assert set(cuda_target.assemble(text, arch)) == {"pass_0"}


def compiled(case, dtype="float64"):
    f = sg.compile(case.text, wrt=case.wrt, dtype=dtype, device="cuda")
    return f.specialize(**case.values(case.few(300)))


REST = [case for case in CASES if case not in SPECIFIED + MODELS][::2]


@pytest.mark.parametrize("case", REST, ids=str)
def test_losses(case):
    """Each for one of two architectures, and one in three assembled; the models below
    for both, all of them. The simulator runs the others."""
    number = REST.index(case)
    arch = BOTH[number % 2]
    text = checked(compiled(case).ptx_for(arch), arch)
    if cuda_target.assembler() is not None and number % 3 == 0:
        assert cuda_target.assemble(text, arch)


@ASSEMBLER
@DTYPES
@pytest.mark.parametrize("case", SPECIFIED + MODELS, ids=str)
def test_models_spill_no_registers(case, dtype):
    f = compiled(case, dtype)
    for arch in BOTH[dtype == "float32" :]:
        for name, used in cuda_target.assemble(f.ptx_for(arch), arch).items():
            assert used.spilled == 0, (name, used)
            assert used.registers <= 255
            assert used.shared <= 48 << 10


@ASSEMBLER
@pytest.mark.parametrize("case", test_examples.CASES, ids=lambda c: c.name)
def test_examples_losses(case):
    params, data = test_examples.values_of(case)
    text = getattr(test_examples.example(case.name), case.loss)
    f = sg.compile(text, wrt=list(params), device="cuda").specialize(**params, **data)
    for arch in BOTH:
        used = cuda_target.assemble(checked(f.ptx_for(arch), arch), arch)
        assert all(kernel.spilled == 0 for kernel in used.values())


@ASSEMBLER
@pytest.mark.parametrize("arch", PTX_VERSIONS)
def test_all_architectures(arch):
    f = sg.compile("sum((a * x - y)**2)", wrt=["a"], device="cuda")
    f.specialize(a=(), x=(100,), y=(100,))
    assert cuda_target.assemble(checked(f.ptx_for(arch), arch), arch)


# --------------------------------------------------------------------------------------
# The front door
# --------------------------------------------------------------------------------------


def test_ptx_of_a_loss_for_the_processor():
    """The same kernel as with device="cuda"."""
    text = "sum((a * x - y)**2)"
    shapes = {"a": (), "x": (100,), "y": (100,)}
    f = sg.compile(text, wrt=["a"], shapes=shapes)
    g = sg.compile(text, wrt=["a"], shapes=shapes, device="cuda")
    assert f.ptx == g.ptx == g.asm
    assert ".target sm_75" in f.ptx
    assert "define ptx_kernel" in g.llvm
    assert "pass_0" in g.explain()


def test_models_have_ptx():
    f = sg.model("a * x", wrt=["a"], shapes={"a": (), "x": (9,)}, device="cuda")
    assert ".entry pass_0" in f.ptx


def test_ptx_needs_shapes():
    with pytest.raises(ArgumentError, match="specialize"):
        _ = sg.compile("a**2", wrt=["a"], device="cuda").ptx


@pytest.mark.parametrize("arch", ["sm_70", "sm_99", "gfx90a", "sm_100f", ""])
def test_unknown_architectures(arch):
    """Refused here: LLVM would end the process."""
    with pytest.raises(DeviceError, match="sm_75"):
        architecture(arch)


@pytest.mark.parametrize(
    ("capability", "arch"),
    [((7, 5), "sm_75"), ((8, 0), "sm_80"), ((8, 6), "sm_86"), ((8, 9), "sm_89"),
     ((9, 0), "sm_90"), ((10, 0), "sm_100"), ((10, 3), "sm_100"), ((12, 1), "sm_120")],
)  # fmt: skip
def test_architectures_of_devices(capability, arch):
    assert architecture_of(*capability) == arch


def test_old_devices_are_refused():
    with pytest.raises(DeviceError, match=r"7\.0.*7\.5"):
        architecture_of(7, 0)


@ASSEMBLER
def test_the_assembler_rejects():
    with pytest.raises(DeviceError, match="ptxas"):
        cuda_target.assemble(".version 6.3\n.target sm_75\nnonsense", "sm_75")


def test_nothing_of_cuda_is_imported_early():
    code = (
        "import sys, symgrad as sg\n"
        "f = sg.compile('a*x', wrt=['a'], device='cuda')\n"
        "f.specialize(a=(), x=()).ptx\n"
        "assert not [m for m in sys.modules if m.split('.')[0] == 'cuda'], 'cuda'\n"
        "assert 'torch' not in sys.modules and 'cupy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
