"""The machine's limits: measured once, kept privately, and what is made of them."""

from __future__ import annotations

import ctypes
import json
import stat

import numpy as np
import pytest

import symgrad as sg
from symgrad import cli, errors
from symgrad.runtime import cache, roofline
from symgrad.runtime.roofline import Load, Machine
from symgrad.runtime.work import Work

SLOW = Machine(1, ((1000, 4e9), (1_000_000, 1e9)), {"float64": 1e9, "float32": 2e9})


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A cache of its own; nothing is known yet, and measuring takes no time."""
    measured = []

    def measure(count):
        measured.append(count)
        return Machine(count, SLOW.bandwidth, SLOW.flops)

    monkeypatch.setenv("SYMGRAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(roofline, "_known", {})
    monkeypatch.setattr(roofline, "measure", measure)
    return measured


def data(n=2000):
    numbers = np.random.default_rng(1)
    X = numbers.normal(size=(n, 3))
    return {"w": numbers.normal(size=3), "X": X, "y": numbers.normal(size=n)}


def compiled():
    return sg.compile("mean((tanh(X @ w) - y)**2)", wrt=["w"], threads=1)


# --- what a kernel needs at least -----------------------------------------------------


def test_bandwidth_between_the_measured_footprints():
    assert SLOW.bandwidth_at(10) == SLOW.bandwidth_at(1000) == 4e9
    assert SLOW.bandwidth_at(1e6) == SLOW.bandwidth_at(1e12) == 1e9
    middle = SLOW.bandwidth_at(1000 * 10**1.5)
    assert middle == pytest.approx(2.5e9)


def test_each_step_takes_the_longer_of_reading_and_computing():
    reading, computing = Load(1_000_000, 1e3), Load(100, 5e6)
    found = roofline.roofline([reading, computing], "float64", SLOW)
    assert found.bytes == 1_000_100
    assert found.reading == pytest.approx(1e-3, rel=1e-3)
    assert found.computing == pytest.approx(5e-3, rel=1e-3)
    assert found.seconds == pytest.approx(6e-3, rel=1e-3)
    single = roofline.roofline([computing], "float32", SLOW)
    assert single.seconds == pytest.approx(2.5e-3)


def test_nothing_to_do_takes_no_time():
    assert roofline.roofline([], "float64", SLOW).seconds == 0.0


def test_functions_count_by_their_cost():
    work = Work(flops=3, other=2)
    work.calls["exp"] = 4
    from symgrad.ops import OPS

    assert roofline.flops(work) == 3 + 2 + 2 * 4 * OPS["exp"].cost


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.00321, "s", "3.21 ms"), (88e6, "B", "88 MB"), (0.0, "s", "0 s"),
     (999.0, "B", "999 B"), (1000.0, "B", "1 kB"), (3e-12, "s", "0.003 ns"),
     (5e16, "flop", "5e+04 Tflop")],
)  # fmt: skip
def test_amounts(value, unit, text):
    assert roofline.amount(value, unit) == text


# --- the machine ----------------------------------------------------------------------


def test_this_machine_has_limits(monkeypatch):
    """No figure is asserted, only that they are those of some processor."""
    monkeypatch.setattr(roofline, "FOOTPRINTS", (1 << 16, 1 << 20))
    monkeypatch.setattr(roofline, "_TURN", 1e-4)
    found = roofline.measure(2)
    assert found.threads == 2
    assert [size for size, _ in found.bandwidth] == [1 << 16, 1 << 20]
    assert all(1e8 < rate < 1e14 for _, rate in found.bandwidth)
    assert all(1e8 < rate < 1e14 for rate in found.flops.values())


def test_the_code_that_is_timed_does_the_work():
    """``read`` adds up all of its part of the memory, as often as it is told."""
    from symgrad.codegen import cpu
    from symgrad.runtime.object_layout import address

    code = cpu.load_object(cpu.compile_text(roofline._source()))
    lanes, streams = cpu.host().lanes("float64"), roofline._STREAMS
    memory = np.zeros((2, 5, streams, lanes))
    memory[0, :, :, 0], memory[1, :, :, 0] = 1.0, 100.0
    kinds = [ctypes.c_void_p] * 5 + [ctypes.c_int64] * 2
    result = np.zeros(1)

    def call(name, *numbers):
        function = ctypes.CFUNCTYPE(None, *kinds)(code.address(name))
        function(*numbers, 0, address(result), 0, 2)
        return result[0]

    each = memory[0].size
    assert call("read", address(memory), each, 3) == 3 * 5 * streams * 101
    assert call("float64", 3, 0, 1) == roofline._CHAINS * (1 - 0.5**6)


def test_measured_once_and_kept_for_this_user_only(fresh, tmp_path):
    assert roofline.known_machine(2) is None
    found = roofline.machine(2)
    assert roofline.machine(2) is found
    assert fresh == [2]
    (path,) = (tmp_path / "cache").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    roofline._known.clear()  # another process
    assert roofline.known_machine(2) == found == roofline.machine(2)
    assert roofline.known_machine(1) is None
    roofline.machine(2, again=True)
    assert fresh == [2, 2]


def test_without_a_cache_it_lasts_as_long_as_the_process(fresh, monkeypatch, tmp_path):
    monkeypatch.setenv("SYMGRAD_CACHE", "off")
    roofline.machine(1)
    assert roofline.known_machine(1) is not None
    assert fresh == [1]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "content",
    [b"nonsense", b"[]", b"{}", b'{"bandwidth": [], "flops": {}}',
     json.dumps({"bandwidth": [[1, -2.0]],
                 "flops": {"float64": 1.0, "float32": 1.0}}).encode(),
     json.dumps({"bandwidth": [], "flops": {"float64": 1.0, "float32": 1.0}}).encode()],
)  # fmt: skip
def test_what_is_no_measurement_is_measured_again(fresh, tmp_path, content):
    cache.store(tmp_path / "cache", roofline._key(1), content)
    assert roofline.known_machine(1) is None
    roofline.machine(1)
    assert fresh == [1]
    roofline._known.clear()
    assert roofline.known_machine(1) is not None


# --- explain --------------------------------------------------------------------------


def test_explain_measures_nothing_unasked(fresh):
    f = compiled()
    f.specialize(**data())
    assert "roofline" in f.explain()
    assert "explain(values)" in " ".join(f.explain().split())
    assert fresh == []


def test_explain_with_values_states_the_share(fresh):
    f = compiled()
    text = " ".join(f.explain(data()).split())
    assert fresh == [1]
    assert "64 kB at" in text  # 2000 rows of four float64
    assert "at least" in text
    assert "% of the roofline" in text
    later = f.explain()
    assert "at least" in later
    assert "measured" not in later


def test_bound_objectives_state_their_share(fresh):
    values = data()
    w = values.pop("w")
    objective = compiled().bind(**values)
    x = objective.pack({"w": w})
    assert "% of the roofline" in " ".join(objective.explain(x).split())
    assert "measured" not in objective.explain()


def test_models_state_their_share(fresh):
    m = sg.model("a*exp(-b*x)", wrt=["a", "b"])
    text = m.explain({"a": 1.0, "b": 2.0, "x": np.linspace(0, 1, 5000)})
    assert "% of the roofline" in " ".join(text.split())


def test_kernels_with_a_direction_are_not_timed(fresh):
    f, values = compiled(), data()
    f.hvp({"w": np.ones(3)}, **values)
    assert "roofline" in f.explain(kernel="hvp")
    with pytest.raises(errors.ArgumentError, match="leave out the values"):
        f.explain(values, kernel="hvp")
    with pytest.raises(errors.ArgumentError, match="no kernel 'nonsense'"):
        f.explain(values, kernel="nonsense")


def test_the_share_is_of_the_time_that_is_measured(fresh, monkeypatch):
    monkeypatch.setattr(roofline, "seconds_of", lambda call: 6.4e-5)
    text = " ".join(compiled().explain(data()).split())
    least = roofline.machine(1)
    assert least.bandwidth_at(64_000) == pytest.approx(2.19e9, rel=1e-2)
    calls = float(text.split("flop at")[0].split()[-2])
    share = 1e3 * calls * 1e-9 / 6.4e-5  # kflop at 1 Gflop/s take longer than reading
    assert f"{100 * share:.0f} % of the roofline" in text


def test_info_prints_the_limits(fresh, capsys):
    assert cli.main(["info"]) == 0
    assert "not measured" in capsys.readouterr().out
    assert cli.main(["info", "--measure"]) == 0
    shown = capsys.readouterr().out
    assert "1 thread: reads 1 GB/s (4 GB/s from cache)" in shown
    assert fresh[0] == 1
