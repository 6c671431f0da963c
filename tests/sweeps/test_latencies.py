import pytest
import torch

from axformer_lightning.sweeps.latencies import Latencies, Latency, compare_latencies


def row(name, macs, ms, engine="PyTorch float"):
    return Latency(name, engine, 100, macs, {"batch1": ms}, {"batch1": (ms, ms)}, None)


def test_an_ideal_engine_realises_all_that_multiply_adds_promise():
    dense, half = row("dense", 1000, 8.0), row("half", 500, 4.0)
    assert half.times_faster(dense) == {"batch1": 2.0}
    assert half.realised(dense) == {"batch1": 1.0}
    assert row("half", 500, 8.0).realised(dense) == {"batch1": 0.5}


def test_a_device_with_room_for_more_is_told():
    found = Latencies([], {"PyTorch float": {"batch1": 1.1, "batch32": 1.98}})
    assert found.idle() == [("PyTorch float", "batch1", 1.1)]


@pytest.mark.one_family
@pytest.mark.one_implementation
def test_memory_counts_what_a_larger_batch_takes(tiny, tmp_path):
    model = tiny.model("bert", "sdpa", num_labels=2)
    options = {"batch_sizes": [1], "length": 8, "rounds": 1, "seconds": 0.0}
    found = compare_latencies({"dense": model}, tmp_path, **options)
    (one,) = found.rows
    if one.memory_bytes is None:
        pytest.skip("the kernel does not count")
    assert one.memory_bytes >= 0
    assert found.twice["PyTorch float"]["batch1"] > 0


@pytest.mark.one_family
@pytest.mark.one_implementation
def test_precisions_are_not_compared_by_mistake(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"Expected float32 weights in 'half', got torch\.bfloat16"):
        compare_latencies({"half": tiny.model("bert", "sdpa").to(torch.bfloat16)}, tmp_path)
