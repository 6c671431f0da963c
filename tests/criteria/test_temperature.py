import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from axformer_lightning.criteria import fit_temperature

SEEDS = st.integers(0, 10**6)


def samples(seed, scale=1.0):
    """Logits of 200 samples and labels that are drawn with the probabilities of ``logits / scale``."""
    rng = torch.Generator().manual_seed(seed)
    logits_NC = torch.randn(200, 4, generator=rng, dtype=torch.float64) * 3 * scale
    return logits_NC, torch.multinomial((logits_NC / scale).softmax(1), 1, generator=rng)[:, 0]


@given(SEEDS, st.floats(0.2, 5))
def test_no_other_temperature_fits_better(seed, scale):
    logits_NC, labels_N = samples(seed, scale)
    fitted = fit_temperature(logits_NC, labels_N)
    losses = [cross_entropy(logits_NC / (fitted * factor), labels_N).item() for factor in (0.999, 1.0, 1.001)]
    assert losses[1] == min(losses)


@given(SEEDS)
def test_the_temperature_grows_with_the_logits_and_heeds_no_offset(seed):
    logits_NC, labels_N = samples(seed)
    expected = fit_temperature(logits_NC, labels_N)
    assert fit_temperature(logits_NC * 8 + torch.arange(200.0)[:, None], labels_N) == pytest.approx(
        8 * expected, rel=1e-9
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_two_classes_have_a_temperature_in_closed_form(dtype):
    logits_NC = torch.tensor([[3.0, 0.0]], dtype=dtype).expand(10, 2)
    fitted = fit_temperature(logits_NC, torch.tensor([0] * 8 + [1] * 2))
    assert fitted == pytest.approx(3 / math.log(4), rel=1e-12)


@pytest.mark.parametrize("gap", [0.5, 1000.0])
def test_where_every_sample_is_right_it_is_as_cold_as_it_gets(gap):
    assert fit_temperature(torch.tensor([[gap, 0.0], [0.0, gap]]), torch.tensor([0, 1])) == pytest.approx(0.01)


def test_where_every_sample_is_wrong_it_is_as_hot_as_it_gets():
    assert fit_temperature(torch.tensor([[3.0, 0.0], [0.0, 3.0]]), torch.tensor([1, 0])) == pytest.approx(100)


def test_logits_that_tell_no_class_from_another_are_left_alone():
    assert fit_temperature(torch.tensor([[2.0, 2.0], [-1.0, -1.0]]), torch.tensor([0, 1])) == 1.0


def test_samples_without_a_class_do_not_count():
    logits_NC, labels_N = samples(3)
    without = labels_N.clone()
    without[::3] = -100
    real = without != -100
    assert fit_temperature(logits_NC, without) == fit_temperature(logits_NC[real], labels_N[real])


@pytest.mark.parametrize("label", [-1, 3])
def test_a_class_that_the_logits_do_not_have_is_refused(label):
    with pytest.raises(ValueError, match=f"Expected labels of 0 to 2, or -100 for none, got {label}"):
        fit_temperature(torch.randn(2, 3), torch.tensor([0, label]))


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (torch.zeros(2), torch.tensor([0, 1])),
        (torch.zeros(2, 3), torch.tensor([0])),
        (torch.zeros(2, 3), torch.zeros(2)),
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)),
        (torch.zeros(2, 3), torch.full((2,), -100)),
    ],
    ids=["one dimension", "too few labels", "numbers", "no samples", "no classes"],
)
def test_logits_and_labels_that_do_not_go_together_are_refused(logits, labels):
    with pytest.raises(ValueError, match=r"Expected logits of shape \(N, C\) and N integer labels, got"):
        fit_temperature(logits, labels)


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="Expected finite logits"):
        fit_temperature(torch.tensor([[0.0, -math.inf]]), torch.tensor([0]))
