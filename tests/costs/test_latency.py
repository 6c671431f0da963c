import itertools

import pytest
import torch
from transformers import BertConfig, BertModel

from axformer_lightning.costs import latencies_ms
from axformer_lightning.costs.latency import MIN_ROUNDS

BRIEFLY = {"length": 4, "min_seconds": 1e-6}


def tiny(**kwargs):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return BertModel(BertConfig(vocab_size=20, max_position_embeddings=16, **sizes, **kwargs))


@pytest.fixture
def models():
    return {"dense": tiny(), "cut": tiny()}


@pytest.fixture
def passes(models):
    """What each forward pass was: the model's name, its batch size, its module's state."""
    log = []
    for name, model in models.items():

        def record(module, args, kwargs, name=name):
            log.append((name, tuple(kwargs["input_ids"].shape), module.training, torch.is_inference_mode_enabled()))

        model.register_forward_pre_hook(record, with_kwargs=True)
    return log


@pytest.fixture
def clock(monkeypatch):
    """Stands in for `Timer`: counts passes, each of which takes `seconds`; a hiccup spoils the second turn."""

    class Clock:
        seconds, hiccup, passes = 2.0, 3600.0, 0

        def __init__(self, *args, **kwargs):
            self.turn = 0

        def timeit(self, number):
            self.turn += 1
            Clock.passes += number
            self.median = Clock.hiccup if self.turn == 2 else Clock.seconds
            return self

    monkeypatch.setattr("axformer_lightning.costs.latency.Timer", Clock)
    return Clock


def test_every_model_has_a_time_for_every_batch_size(models):
    measured = latencies_ms(models, batch_sizes=(1, 3, 2), **BRIEFLY)
    assert list(measured) == ["dense", "cut"]
    for times in measured.values():
        assert list(times) == ["batch1", "batch3", "batch2"]
        assert all(type(time) is float and time > 0 for time in times.values())


def test_the_result_is_the_median_in_milliseconds(models, clock):
    for times in latencies_ms(models, length=4, min_seconds=1).values():
        assert times == {"batch1": 2000, "batch32": 2000}


@pytest.mark.parametrize("seconds", [0.001, 0.02, 2.0])
def test_passes_are_timed_as_long_as_asked(clock, seconds):
    clock.seconds = seconds
    clock.hiccup = seconds
    latencies_ms({"one": tiny()}, length=4, batch_sizes=(1,), min_seconds=1)
    timed = seconds * (clock.passes - 1)
    assert max(1, MIN_ROUNDS * seconds) <= timed <= max(1.1, MIN_ROUNDS * seconds)


def test_the_models_take_turns(models, passes):
    latencies_ms(models, batch_sizes=(2,), **BRIEFLY)
    turns = [name for name, _ in itertools.groupby(passes, key=lambda call: call[0])]
    assert turns == ["dense", "cut"] * (1 + MIN_ROUNDS)


def test_passes_run_in_inference_with_the_batches_asked_for(models, passes):
    latencies_ms(models, batch_sizes=(1, 3), **BRIEFLY)
    assert {shape for _, shape, _, _ in passes} == {(1, 4), (3, 4)}
    assert {(training, inference) for _, _, training, inference in passes} == {(False, True)}


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_the_model_is_left_as_it_was(implementation):
    model = tiny(attn_implementation=implementation)
    model.embeddings.eval()
    before = [module.training for module in model.modules()]
    threads = torch.get_num_threads()
    latencies_ms({"one": model}, batch_sizes=(1,), **BRIEFLY)
    assert [module.training for module in model.modules()] == before
    assert set(before) == {True, False}
    assert model.config._attn_implementation == implementation
    assert torch.get_num_threads() == threads
    model(torch.ones(1, 3, dtype=torch.long)).last_hidden_state.sum().backward()


def test_all_threads_are_used(models):
    seen = set()
    models["dense"].register_forward_pre_hook(lambda module, args: seen.add(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        latencies_ms(models, batch_sizes=(1,), **BRIEFLY)
    finally:
        torch.set_num_threads(before)
    assert seen == {3}


def test_another_precision_is_named(models):
    models["cut"].bfloat16()
    with pytest.raises(ValueError, match=r"Expected float32 weights in 'cut', got torch.bfloat16. Call"):
        latencies_ms(models, **BRIEFLY)


def test_a_batch_without_samples_is_named(models):
    with pytest.raises(ValueError, match="Expected a batch size of at least 1, got 0"):
        latencies_ms(models, batch_sizes=(0,), **BRIEFLY)
