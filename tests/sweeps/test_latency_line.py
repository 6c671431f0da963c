import random

import pytest

from axformer_lightning.anatomy import BERT, Anatomy, LayerPlan
from axformer_lightning.costs import Conditions
from axformer_lightning.sweeps.latency_line import fit_latency_line
from axformer_lightning.sweeps.prediction import random_layers

ANATOMY = Anatomy("bert", BERT, ("a", "b", "c"), 12, 32, 1536)
AT = Conditions("a CPU", "2.13", 1, "torch.float32", "sdpa", "bert", 3, 12, 32, 1536, batch_size=8, tokens=128)
NUMBERS = (2.0, 0.5, 0.25, 0.125, 0.001)  # rest, an attention block, a head, a feed-forward block, a neuron


def takes(layers, noise=0.0):
    rest, attention, head, feed_forward, neuron = NUMBERS
    ms = rest
    for layer in layers:
        if layer.attention == "kept":
            ms += attention + head * len(layer.kept_heads(12))
        if layer.feed_forward == "kept":
            ms += feed_forward + neuron * len(layer.kept_neurons(1536))
    return ms * (1 + noise)


def plans(count, seed):
    draw = random.Random(seed)
    return [random_layers(ANATOMY, draw) for _ in range(count)]


def test_a_line_that_is_one_is_found_again():
    table = fit_latency_line(AT, {layers: takes(layers) for layers in plans(12, 0)})
    for layers in [*plans(20, 1), ANATOMY.dense_layers(), (LayerPlan("removed", (), "removed"),) * 3]:
        assert table.predict_ms(layers) == pytest.approx(takes(layers))


def test_noise_of_a_few_percent_is_averaged_out():
    draw = random.Random(2)
    table = fit_latency_line(AT, {layers: takes(layers, draw.uniform(-0.03, 0.03)) for layers in plans(24, 0)})
    for layers in plans(20, 1):
        assert table.predict_ms(layers) == pytest.approx(takes(layers), rel=0.05)


def test_the_table_is_kept_like_any_other(tmp_path):
    table = fit_latency_line(AT, {layers: takes(layers) for layers in plans(12, 0)})
    table.save(tmp_path / "table.json")
    assert type(table).load(tmp_path / "table.json") == table


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (dict.fromkeys(plans(7, 0), 1.0), "at least 8 plans, got 7"),
        (dict.fromkeys(plans(9, 0), 0.0), "times above 0"),
        ({layers: float("nan") for layers in plans(9, 0)}, "times above 0"),
    ],
)
def test_times_that_say_nothing_are_refused(times, message):
    with pytest.raises(ValueError, match=message):
        fit_latency_line(AT, times)
