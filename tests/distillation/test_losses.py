"""What a teacher adds to the loss, against formulas by hand."""

import math

import pytest
import torch
from torch.nn import functional

from axformer_lightning.distillation import Distillation, hidden_loss, logits_of, mixed_loss, soft_loss


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3


def divergence(student, teacher, temperature):
    """KL of two lists of logits, in plain Python."""

    def softmax(logits):
        powers = [math.exp(value / temperature) for value in logits]
        return [power / sum(powers) for power in powers]

    pairs = zip(softmax(teacher), softmax(student), strict=True)
    return temperature**2 * sum(p * (math.log(p) - math.log(q)) for p, q in pairs)


def mean(values):
    return sum(values) / len(values)


@pytest.mark.parametrize("temperature", [1, 2, 4.5])
def test_classes(temperature):
    student, teacher = random(5, 3), random(5, 3, seed=1)
    by_hand = mean([divergence(*pair, temperature) for pair in zip(student.tolist(), teacher.tolist(), strict=True)])
    assert soft_loss(student, teacher, temperature=temperature).item() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("num_labels", [3, 1])
def test_labels_that_exclude_nothing_are_choices_of_two(num_labels):
    student, teacher = random(4, num_labels), random(4, num_labels, seed=1)
    pairs = zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    by_hand = mean([divergence([0, one], [0, other], 2) for one, other in pairs])
    found = soft_loss(student, teacher, temperature=2, problem_type="multi_label_classification")
    assert found.item() == pytest.approx(by_hand, rel=1e-4)


def test_only_labelled_tokens_count():
    student, teacher = random(2, 4, 3), random(2, 4, 3, seed=1)
    labels = torch.tensor([[-100, 0, 2, -100], [1, -100, -100, -100]])
    places = [(0, 1), (0, 2), (1, 0)]
    by_hand = mean([divergence(student[i].tolist(), teacher[i].tolist(), 2) for i in places])
    assert soft_loss(student, teacher, temperature=2, labels=labels).item() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize(("shape", "problem_type"), [((4, 1), None), ((4,), None), ((4, 3), "regression")])
def test_numbers_have_no_temperature(shape, problem_type):
    student, teacher = random(*shape), random(*shape, seed=1)
    found = soft_loss(student, teacher, temperature=3, problem_type=problem_type)
    torch.testing.assert_close(found, ((student - teacher) ** 2).mean())


def test_starts_and_ends_count_alike():
    starts, ends = (random(2, 6), random(2, 6, seed=1)), (random(2, 6, seed=2), random(2, 6, seed=3))
    found = soft_loss((starts[0], ends[0]), (starts[1], ends[1]), temperature=2)
    torch.testing.assert_close(found, (soft_loss(*starts, temperature=2) + soft_loss(*ends, temperature=2)) / 2)


def test_positions_that_a_teacher_rules_out_leave_no_nan():
    teacher = torch.tensor([[1.0, 2.0, -1e4]])
    student = random(1, 3).requires_grad_()
    loss = soft_loss(student, teacher, temperature=2)
    (gradient,) = torch.autograd.grad(loss, student)
    assert math.isfinite(loss.item())
    assert gradient[0, 2] > 0  # the student is to rule it out, too


@pytest.mark.parametrize("problem_type", [None, "multi_label_classification", "regression"])
def test_a_student_that_agrees_has_nothing_to_learn(problem_type):
    logits = random(3, 4).requires_grad_()
    loss = soft_loss(logits, logits.detach().clone(), problem_type=problem_type)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-6)


def test_gradients_are_as_large_at_any_temperature():
    """To first order at high temperatures: (student - teacher) / L for centred logits (arXiv 1503.02531, (4))."""
    student, teacher = random(1, 3).requires_grad_(), random(1, 3, seed=1)
    centred = (student - student.mean()) - (teacher - teacher.mean())
    (gradient,) = torch.autograd.grad(soft_loss(student, teacher, temperature=1000), student)
    torch.testing.assert_close(gradient, centred.detach() / 3, rtol=1e-2, atol=1e-2)


def test_half_precision_is_compared_in_float32():
    student, teacher = random(4, 3), random(4, 3, seed=1)
    rounded = student.bfloat16()
    assert soft_loss(rounded, teacher).dtype == torch.float32
    torch.testing.assert_close(soft_loss(rounded, teacher), soft_loss(rounded.float(), teacher), rtol=0, atol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_shares_add_up(alpha):
    output = {"loss": torch.tensor(3.0), "logits": random(2, 3)}
    taught = random(2, 3, seed=1)
    found = mixed_loss(output, taught, Distillation(temperature=2, alpha=alpha, hidden=1))
    torch.testing.assert_close(found, (1 - alpha) * 3 + alpha * soft_loss(output["logits"], taught, temperature=2))


def test_hidden_states_count_where_there_are_tokens_in_layers_that_are_kept():
    states, taught = [random(2, 3, 4, seed=i) for i in range(4)], [random(2, 3, 4, seed=9 + i) for i in range(4)]
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    places = [(0, 0), (0, 1), (1, 0)]

    def share(layer):
        errors = [((states[layer + 1][i] - taught[layer + 1][i]) ** 2).mean() for i in places]
        return mean(errors) / mean([(taught[layer + 1][i] ** 2).mean() for i in places])

    torch.testing.assert_close(hidden_loss(states, taught, [0, 2], mask), (share(0) + share(2)) / 2)
    assert hidden_loss(states, states, [0, 1, 2]).item() == 0
    larger = hidden_loss([10 * x for x in states], [10 * x for x in taught], [1])
    torch.testing.assert_close(larger, hidden_loss(states, taught, [1]))  # whatever the scale of a family


def test_logits_of_another_task_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 3\), got \(2, 2\). Use a teacher of the same task"):
        soft_loss(random(2, 3), random(2, 2))
    with pytest.raises(ValueError, match="start and end logits of both"):
        soft_loss((random(2, 3), random(2, 3)), random(2, 3))
    with pytest.raises(TypeError, match=r"`logits`, or `start_logits` and `end_logits`, got \['hidden'\]"):
        logits_of({"hidden": 1})
    with pytest.raises(TypeError, match="leave `return_dict` on"):
        logits_of((random(2, 3),))


@pytest.mark.parametrize(("alpha", "loss", "mixed"), [(1.0, math.nan, 0.0), (0.0, 4.0, 4.0), (0.5, math.nan, math.nan)])
def test_what_has_no_share_in_the_loss_may_be_no_number(alpha, loss, mixed):
    logits = torch.full((1, 2), math.nan if alpha == 0 else 0.0)
    output = {"loss": torch.tensor(loss), "logits": logits}  # as of a batch in which nothing has a label
    found = mixed_loss(output, logits, Distillation(alpha=alpha, hidden=1.0)).item()
    assert found == pytest.approx(mixed, nan_ok=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "`temperature` to be a number above 0, got 0"),
        ({"temperature": math.inf}, "above 0, got inf"),
        ({"alpha": 1.5}, r"`alpha` in \[0, 1\]"),
        ({"hidden": -1}, "`hidden` to be at least 0"),
        ({"alpha": 0}, "a say in the loss"),
        ({"alpha": "all"}, "`alpha` to be a number, got 'all'"),
        ({"hidden": None}, "`hidden` to be a number, got None"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Distillation(**options)


def test_the_soft_loss_of_one_is_cross_entropy_less_entropy():
    student, teacher = random(3, 5), random(3, 5, seed=1)
    entropy = functional.cross_entropy(teacher, teacher.softmax(-1))
    torch.testing.assert_close(
        soft_loss(student, teacher, temperature=1), functional.cross_entropy(student, teacher.softmax(-1)) - entropy
    )
