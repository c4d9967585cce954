import pytest
import torch

from lib.system import precision

CPU = torch.device("cpu")


def run_with(monkeypatch, seconds):
    """A `run` that takes so many seconds of a clock of its own, and the list of its calls."""
    calls, clock = [], [0.0]
    monkeypatch.setattr(precision.time, "perf_counter", lambda: clock[0])

    def run(name):
        calls.append(name)
        clock[0] += seconds[name]
        return {"fp32": 1.0, "bf16": 1.01, "fp16": 9.0}[name]

    return run, calls


@pytest.mark.parametrize(
    ("seconds", "chosen", "bf16_calls"),
    [
        ({"fp32": 0.02, "bf16": 0.005, "fp16": 0.001}, "bf16", 3),  # fp16 is faster still, and wrong
        ({"fp32": 0.01, "bf16": 0.03, "fp16": 0.03}, "fp32", 1),  # hopeless: not tried again
    ],
)
def test_the_fastest_that_agrees_is_taken_and_a_hopeless_one_dropped(monkeypatch, seconds, chosen, bf16_calls):
    monkeypatch.setattr(precision, "candidates", lambda device: ["fp32", "bf16", "fp16"])
    run, calls = run_with(monkeypatch, seconds)
    assert precision.fastest(CPU, run, lambda result, exact: abs(result - exact) < 0.1) == chosen
    assert calls.count("bf16") == bf16_calls


def test_a_cpu_that_emulates_bfloat16_is_not_timed(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    run, calls = run_with(monkeypatch, {"fp32": 0})
    assert precision.fastest(CPU, run, lambda *_: True) == "fp32" and not calls
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert precision.candidates(CPU) == ["fp32", "bf16"]


def test_where_nothing_agrees_it_is_float32(monkeypatch):
    monkeypatch.setattr(precision, "candidates", lambda device: ["fp32", "bf16"])
    run, _ = run_with(monkeypatch, {"fp32": 0.01, "bf16": 0.001})
    assert precision.fastest(CPU, run, lambda *_: False) == "fp32"
