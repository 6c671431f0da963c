import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from axformer_lightning.int8 import Int8Embedding, Int8Linear, pack, unpack
from axformer_lightning.int8.rounding import rounded_activations, rounded_weight, to_int8, weight_steps

SEEDS = st.integers(0, 2**31)
SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 9))


def drawn(shape, seed, scale=1.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


@given(SHAPES, SEEDS, st.floats(-6, 6))
def test_a_weight_moves_by_half_a_step_at_most_and_its_largest_by_less(shape, seed, magnitude):
    weight = drawn(shape, seed, 10.0**magnitude)
    steps = weight_steps(weight)
    largest = weight.abs().amax(1, keepdim=True)
    assert (rounded_weight(weight) - weight).abs().le(steps * 0.5001).all()
    assert (largest / 127).le(steps).all()
    assert steps.le(largest / 127 * (1 + 2**-14)).all()


@given(SHAPES, SEEDS, st.floats(-6, 6))
def test_what_is_on_the_grid_stays_there_to_the_bit_however_often_it_is_stored(shape, seed, magnitude):
    rounded = rounded_weight(drawn(shape, seed, 10.0**magnitude))
    assert torch.equal(rounded_weight(rounded), rounded)
    weights = {"a.weight": rounded, "a.bias": torch.zeros(shape[0])}
    packed = pack(weights, ["a"])
    assert packed["a.weight"].dtype == torch.int8
    again = unpack(packed)
    assert again.keys() == weights.keys()
    assert torch.equal(again["a.weight"], rounded)
    assert all(torch.equal(one, other) for one, other in zip(to_int8(again["a.weight"]), to_int8(rounded), strict=True))


@given(SHAPES, SEEDS, st.floats(-3, 3), st.floats(-3, 3))
def test_activations_are_on_256_values_of_which_zero_is_one(shape, seed, shift, magnitude):
    x = drawn(shape, seed, 10.0**magnitude) + shift
    rounded = rounded_activations(x)
    step = (max(0.0, x.max().item()) - min(0.0, x.min().item())) / 255
    multiples = rounded.double() / step
    assert (rounded - x).abs().max() <= step * 0.51
    assert (multiples - multiples.round()).abs().max() < 1e-3
    assert multiples.round().max() - multiples.round().min() <= 255


def test_rows_of_zeros_and_no_activations_at_all_are_no_numbers_to_divide_by():
    assert torch.equal(rounded_weight(torch.zeros(2, 3)), torch.zeros(2, 3))
    assert torch.equal(rounded_activations(torch.zeros(2, 3)), torch.zeros(2, 3))
    assert rounded_activations(torch.zeros(0, 3)).shape == (0, 3)


def test_gradients_pass_as_if_nothing_were_rounded():
    layer, x = Int8Linear(4, 3), drawn((5, 4), 0).requires_grad_()
    (layer(x) * drawn((5, 3), 1)).sum().backward()
    plain = torch.autograd.functional.vjp(
        lambda x, w: torch.nn.functional.linear(x, w, layer.bias),
        (rounded_activations(x.detach()), rounded_weight(layer.weight.detach())),
        drawn((5, 3), 1),
    )[1]
    assert torch.allclose(x.grad, plain[0])
    assert torch.allclose(layer.weight.grad, plain[1])


def test_an_embedding_gives_the_rows_of_its_rounded_table():
    layer = Int8Embedding(6, 4, padding_idx=0)
    ids = torch.tensor([[0, 5], [3, 3]])
    assert torch.equal(layer(ids), rounded_weight(layer.weight)[ids])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"a.weight": torch.zeros(2, 3, dtype=torch.int8)}, "int8 and its steps"),
        ({"a.weight": torch.zeros(2, 3), "a.weight_step": torch.ones(2, 1)}, "int8 and its steps"),
        ({"a.weight": torch.zeros(2, 3, dtype=torch.int8), "a.weight_step": torch.ones(3, 1)}, r"each row .*\(3, 1\)"),
        ({"a.weight": torch.tensor(1, dtype=torch.int8), "a.weight_step": torch.ones(1, 1)}, r"each row .*\(\)"),
    ],
)
def test_steps_that_do_not_fit_are_refused(broken, message):
    with pytest.raises(ValueError, match=message):
        unpack(broken)


def test_a_parameter_that_is_called_a_step_stays_what_it_is():
    weights = {"a.weight": torch.tensor([[1.27, -0.3]]), "a.time_step": torch.ones(1), "_step": torch.zeros(2, 1)}
    found = unpack(pack(weights, ["a"]))
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in ("a.time_step", "_step"))


def test_steps_have_few_bits_so_that_all_multiples_are_exact():
    steps = weight_steps(drawn((64, 5), 3)).double()
    for step in steps.flatten().tolist():
        mantissa, _ = math.frexp(step)
        assert mantissa * 2**16 == int(mantissa * 2**16)
