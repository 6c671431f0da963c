"""How far answers are from others, against sums that are written out."""

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, kl_divergence

from axformer_lightning.budgets.answers import answers_of, divergence_of
from axformer_lightning.scoring import Scored, score_logits

ROWS, TOKENS, CLASSES = 6, 5, 3
WHERE = torch.tensor([[0, 1, 2, 1, 0], [-100, 1, -100, -100, -100], *[[2, -100, 0, 1, -100]] * 4])
POSITIONS = dict.fromkeys(("start_positions", "end_positions"), torch.tensor([0, 1, 2, TOKENS, 4, 0]))


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2


def between(other, own):
    return kl_divergence(Categorical(logits=other.double()), Categorical(logits=own.double()))


def of_tokens(other, own):
    return torch.stack([between(o[w >= 0], s[w >= 0]).mean() for o, s, w in zip(other, own, WHERE, strict=True)])


def of_spans(other, own):
    return (between(other[0], own[0]) + between(other[1], own[1])) / 2


def of_labels(other, own):
    return kl_divergence(Bernoulli(logits=other.double()), Bernoulli(logits=own.double())).mean(1)


def logits(form, seed):
    shapes = {"tokens": (ROWS, TOKENS, CLASSES)}
    if form == "spans":
        return drawn(seed, ROWS, TOKENS), drawn(seed + 1, ROWS, TOKENS)
    return drawn(seed, *shapes.get(form, (ROWS, CLASSES)))


FORMS = {
    "classes": ({"labels": torch.tensor([0, 1, 2, 0, 1, 2])}, between),
    "tokens": ({"labels": WHERE}, of_tokens),
    "spans": (POSITIONS, of_spans),
    "labels": ({"labels": torch.tensor([[1.0, 0.0, 1.0]] * ROWS)}, of_labels),
}


@pytest.mark.parametrize("form", FORMS)
def test_it_is_the_mean_over_the_choices_of_a_sample(form):
    batch, expected = FORMS[form]
    other, own = logits(form, 0), logits(form, 7)
    before, after = score_logits(other, batch), score_logits(own, batch)
    (answers,) = answers_of([before])
    torch.testing.assert_close(divergence_of(after, answers), expected(other, own).float())
    torch.testing.assert_close(divergence_of(before, answers), torch.zeros(ROWS), atol=1e-6, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_it_is_the_mean_over_the_windows_of_a_sample(form):
    batch, expected = FORMS[form]
    other, own = logits(form, 0), logits(form, 7)
    windows = {**batch, "sample_ids": torch.tensor([4, 4, 9, 1, 9, 9])}
    (answers,) = answers_of([score_logits(other, windows)])
    far_N, each_W = divergence_of(score_logits(own, windows), answers), expected(other, own).float()
    torch.testing.assert_close(far_N, torch.stack([each_W[:2].mean(), each_W[[2, 4, 5]].mean(), each_W[3]]))


def test_rows_without_a_label_have_no_answer():
    labels = torch.tensor([0, -100, 2, 0, -100, 2])
    for batch, form in (
        ({"labels": labels}, "classes"),
        ({"labels": WHERE.where(labels[:, None] >= 0, -100)}, "tokens"),
    ):
        (answers,) = answers_of([score_logits(logits(form, 0), batch)])
        far_N = divergence_of(score_logits(logits(form, 7), batch), answers)
        assert len(answers) == len(far_N) == (labels >= 0).sum()
        none = {"labels": torch.full_like(batch["labels"], -100)}
        assert len(answers_of([score_logits(logits(form, 0), none)])[0]) == 0


def test_numbers_and_what_a_module_keeps_to_itself_are_no_choices():
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    classes = score_logits(logits("classes", 0), {"labels": labels})
    broken = logits("classes", 0).index_fill(0, torch.tensor(1), torch.inf)
    others = [
        score_logits(torch.randn(6, 1), {"labels": torch.randn(6)}),
        score_logits(logits("classes", 0), {"labels": torch.rand(6, 3)}, "regression"),
        score_logits(torch.randn(6, 5, 1), {"labels": WHERE.clamp(max=0)}),
        score_logits(broken, {"labels": labels}),
        Scored(torch.ones(6), labels, labels),
    ]
    for other in others:
        assert answers_of([other]) is answers_of([classes, other]) is None
