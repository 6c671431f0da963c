"""The loss at the temperature that is best for the logits."""

import torch
from torch.nn import functional

from axformer_lightning.tasks.calibrated import CalibratedLoss


def loss_of(logits_NC, target_N, size=7):
    metric = CalibratedLoss()
    for logits, target in zip(logits_NC.split(size), target_N.split(size), strict=True):
        metric.update(logits, target)
    return float(metric.compute())


def test_it_does_not_depend_on_confidence_or_batches():
    torch.manual_seed(0)
    logits, target = torch.randn(40, 3), torch.randint(3, (40,))
    logits[torch.arange(40), target] += 1
    expected = loss_of(logits, target)
    for sharper in (0.2, 5.0):
        assert abs(loss_of(sharper * logits, target, 40) - expected) < 1e-5
    raw = functional.cross_entropy(logits, target)
    assert expected <= raw < functional.cross_entropy(5 * logits, target)


def test_logits_that_are_no_numbers_have_no_loss():
    logits = torch.tensor([[0.0, torch.nan], [1.0, 0.0]])
    assert loss_of(logits, torch.tensor([0, 1])) != loss_of(logits, torch.tensor([0, 1]))


def test_of_numbers_scale_and_shift_do_not_matter_but_direction_does():
    torch.manual_seed(1)
    target = torch.rand(30)
    numbers = target + 0.3 * torch.randn(30)
    expected = loss_of(numbers, target)
    variance = float(target.var(correction=0))
    assert abs(expected - variance * (1 - float(torch.corrcoef(torch.stack([numbers, target]))[0, 1]) ** 2)) < 1e-6
    assert abs(loss_of(3 * numbers[:, None] - 2, target) - expected) < 1e-6
    for useless in (-numbers, torch.ones(30)):
        assert abs(loss_of(useless, target, 30) - variance) < 1e-6
