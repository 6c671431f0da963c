"""The closed form against least squares on the tokens themselves, and against updates one input at a time."""

import itertools

import pytest
import torch

from axformer_lightning.repair import BlockMoments, output_error, repaired

KEPT = [0, 2, 3, 7]


def tokens(kind="independent", count=40, seed=0):
    """Inputs of eight columns, with means far from 0."""
    generator = torch.Generator().manual_seed(seed)
    mixed_NC = torch.randn(count, 8, generator=generator) @ torch.randn(8, 8, generator=generator)
    x_NC = (mixed_NC + 3 * torch.randn(8, generator=generator)).double()
    if kind == "dead":
        x_NC[:, [0, 5]] = 0
    if kind == "duplicate":
        x_NC[:, 2], x_NC[:, 6] = x_NC[:, 0], x_NC[:, 7]
    if kind == "constant":
        x_NC[:] = x_NC[0]
    return x_NC


def linear(seed=1, bias=True):
    generator = torch.Generator().manual_seed(seed)
    weight_OC = torch.randn(5, 8, generator=generator).double()
    return weight_OC, torch.randn(5, generator=generator).double() if bias else None


def outputs(x_NC, weight_OC, bias_O):
    return torch.nn.functional.linear(x_NC, weight_OC, bias_O)


def error(x_NC, old, kept, new):
    return (outputs(x_NC, *old) - outputs(x_NC[:, kept], *new)).square().sum(1).mean().item()


def surgeon(weight_OC, hessian_CC, gone):
    """Remove inputs one at a time, each with the update that makes up for it best (Hassibi and Stork 1993)."""
    weight_OC, inverse_CC = weight_OC.clone(), torch.linalg.inv(hessian_CC)
    for q in gone:
        weight_OC -= torch.outer(weight_OC[:, q], inverse_CC[q]) / inverse_CC[q, q]
        inverse_CC = inverse_CC - torch.outer(inverse_CC[:, q], inverse_CC[q]) / inverse_CC[q, q]
    return weight_OC


@pytest.mark.parametrize("kind", ["independent", "dead", "duplicate", "constant"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_repair_never_makes_the_outputs_worse(kind, bias):
    x_NC, old = tokens(kind), linear(bias=bias)
    for kept, damping in itertools.product([KEPT, [2], [], list(range(8))], [0.0, 1e-4, 1.0, 100.0]):
        new = repaired(*old, BlockMoments.of(x_NC), kept, damping)
        before = error(x_NC, old, kept, (old[0][:, kept], old[1]))
        assert torch.isfinite(new[0]).all()
        assert error(x_NC, old, kept, new) <= before * (1 + 1e-12) + 1e-20


@pytest.mark.parametrize("kind", ["independent", "dead", "duplicate", "constant"])
@pytest.mark.parametrize("bias", [True, False])
def test_without_damping_no_other_weights_come_nearer(kind, bias):
    x_NC, old = tokens(kind), linear(bias=bias)
    read_NC = torch.cat([x_NC[:, KEPT], x_NC.new_ones(len(x_NC), int(bias))], dim=1)
    best_KO = torch.linalg.pinv(read_NC) @ outputs(x_NC, *old)
    least = (outputs(x_NC, *old) - read_NC @ best_KO).square().sum(1).mean().item()
    found = error(x_NC, old, KEPT, repaired(*old, BlockMoments.of(x_NC), KEPT, 0.0))
    assert found == pytest.approx(least, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("damping", [0.0, 0.01, 10.0])
@pytest.mark.parametrize("bias", [True, False])
def test_a_repair_is_where_one_at_a_time_surgery_ends(bias, damping):
    old, moments = linear(bias=bias), BlockMoments.of(tokens())
    spread_CC = moments.covariance if bias else moments.second
    hessian_CC = spread_CC + damping * spread_CC.diagonal().mean() * torch.eye(8)
    expected_OC = surgeon(old[0], hessian_CC, [1, 6, 4, 5])
    torch.testing.assert_close(repaired(*old, moments, KEPT, damping)[0], expected_OC[:, KEPT])


@pytest.mark.parametrize("damping", [0.0, 1.0, 1e6])
def test_the_mean_of_the_output_is_met_whatever_the_damping(damping):
    x_NC, old = tokens(), linear()
    new = repaired(*old, BlockMoments.of(x_NC), KEPT, damping)
    torch.testing.assert_close(outputs(x_NC[:, KEPT], *new).mean(0), outputs(x_NC, *old).mean(0))


def test_heavy_damping_leaves_the_old_weights():
    weight_OK, _ = repaired(*linear(), BlockMoments.of(tokens()), KEPT, 1e9)
    torch.testing.assert_close(weight_OK, linear()[0][:, KEPT], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_keeping_everything_changes_no_bit(dtype):
    weight_OC, bias_O = (value.to(dtype) for value in linear())
    new_OC, new_O = repaired(weight_OC, bias_O, BlockMoments.of(tokens()), list(range(8)))
    assert torch.equal(new_OC, weight_OC)
    assert torch.equal(new_O, bias_O)


def test_keeping_nothing_gives_the_mean():
    x_NC, old = tokens(), linear()
    weight_O0, bias_O = repaired(*old, BlockMoments.of(x_NC), [])
    assert weight_O0.shape == (5, 0)
    torch.testing.assert_close(bias_O, outputs(x_NC, *old).mean(0))
    torch.testing.assert_close(BlockMoments.of(x_NC).mean_output(*old), bias_O)


@pytest.mark.parametrize("bias", [True, False])
def test_the_error_by_moments_is_that_of_the_tokens(bias):
    x_NC, old, new = tokens(), linear(bias=bias), linear(seed=2, bias=bias)
    new = (new[0][:, KEPT], new[1])
    found = output_error(*old, BlockMoments.of(x_NC), KEPT, *new)
    assert found == pytest.approx(error(x_NC, old, KEPT, new))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"Expected moments of 8 inputs.*got those of 7"):
        repaired(*linear(), BlockMoments.of(tokens()[:, :7]), [0])
    with pytest.raises(ValueError, match="damping of at least 0, got nan"):
        repaired(*linear(), BlockMoments.of(tokens()), [0], float("nan"))
