"""The order of removal against brute force and against direct least squares."""

import itertools

import pytest
import torch

from axformer_lightning.repair import BlockMoments, RemovalOrder, order, output_error, removal_order, repaired

COLUMNS, OUTPUTS = 12, 5


@pytest.fixture(params=[0, 1, 2])
def seed(request):
    return request.param


@pytest.fixture
def block(seed):
    """A weight, and the moments of inputs that depend on each other and have means."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(60, COLUMNS, generator=generator) @ torch.randn(COLUMNS, COLUMNS, generator=generator) + 2
    return torch.randn(OUTPUTS, COLUMNS, generator=generator).double(), BlockMoments.of(inputs.double())


def error_of(weight_OC, moments, units, width, bias=True):
    """The error of the block that keeps ``units``, repaired by direct least squares."""
    kept = [unit * width + column for unit in sorted(units) for column in range(width)]
    bias_O = torch.zeros(OUTPUTS).double() if bias else None
    return output_error(weight_OC, bias_O, moments, kept, *repaired(weight_OC, bias_O, moments, kept, 0.0))


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_every_step_is_the_best_single_removal(block, width, bias):
    found = removal_order(*block, width=width, has_bias=bias, damping=0.0)
    left, before = set(range(COLUMNS // width)), 0.0
    assert set(found.units) == left
    for unit, score in zip(found.units, found.scores, strict=True):
        errors = {other: error_of(*block, left - {other}, width, bias) for other in left}
        assert unit == min(errors, key=errors.get)
        assert score == pytest.approx(errors[unit] - before, rel=1e-6, abs=1e-9)
        left.remove(unit)
        before = errors[unit]


@pytest.mark.parametrize("width", [1, 2, 3])
def test_scores_add_up_to_the_error_of_what_is_left(block, width):
    found = removal_order(*block, width=width, damping=1e-12)
    for count, total in enumerate(itertools.accumulate(found.scores), 1):
        kept = found.kept(COLUMNS // width - count)
        assert total == pytest.approx(error_of(*block, kept, width), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("pending", [1, 2, 5, 100])
def test_updates_in_blocks_give_the_order_of_updates_at_once(block, monkeypatch, pending):
    monkeypatch.setattr(order, "PENDING", pending)
    weight_OC, moments = block
    inverse_CC = torch.linalg.inv(moments.covariance)
    one_by_one = order._order_of_groups(weight_OC, inverse_CC, 1)
    found = order._order_of_columns(weight_OC, inverse_CC)
    assert found.units == one_by_one.units
    assert found.scores == pytest.approx(one_by_one.scores)


@pytest.mark.parametrize("damping", [0.0, 1e-4])
@pytest.mark.parametrize("width", [1, 2])
def test_what_is_dead_or_said_twice_goes_first_at_no_cost(block, damping, width):
    inputs = torch.randn(60, COLUMNS, generator=torch.Generator().manual_seed(3)).double()
    inputs[:, [4, 5]] = 7.0
    inputs[:, [8, 9]] = inputs[:, [0, 1]]
    found = removal_order(block[0], BlockMoments.of(inputs), width=width, damping=damping)
    first = set(found.units[: 4 // width])
    assert {4 // width, 5 // width} <= first
    assert first & {0, 8 // width}
    assert sum(found.scores[: 4 // width]) < 0.01 * sum(found.scores)


@pytest.mark.parametrize("width", [1, 4])
def test_of_equally_bad_units_the_first_goes_first(width):
    moments = BlockMoments.of(torch.zeros(5, COLUMNS).double())
    assert removal_order(torch.ones(2, COLUMNS), moments, width=width).units == tuple(range(COLUMNS // width))


def test_the_same_comes_out_again_and_what_went_in_stays(block):
    copies = block[0].clone(), block[1].sums_MM.clone()
    assert removal_order(*block) == removal_order(*block)
    assert torch.equal(copies[0], block[0])
    assert torch.equal(copies[1], block[1].sums_MM)


def test_the_last_units_are_kept():
    assert [RemovalOrder((2, 0, 1), (0.0,) * 3).kept(count) for count in range(4)] == [[], [1], [0, 1], [0, 1, 2]]


def test_what_does_not_fit_is_refused(block):
    with pytest.raises(ValueError, match=r"the 11 inputs of the weight, in units of 1, got those of 12"):
        removal_order(block[0][:, :11], block[1])
    with pytest.raises(ValueError, match="in units of 5"):
        removal_order(*block, width=5)
    with pytest.raises(ValueError, match="Expected finite moments"):
        removal_order(block[0], BlockMoments(block[1].sums_MM * torch.nan))
