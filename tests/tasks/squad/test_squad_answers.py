import pytest
import torch

from axformer_lightning.tasks.squad import best_spans


def make_batch(seed, lengths=(9, 14, 6, 14, 11), ids=(4, 4, 4, 2, 9), question=3):
    """Windows of random logits, in which a context follows upon [CLS] and question and ends before [SEP]."""
    generator = torch.Generator().manual_seed(seed)
    T = max(lengths)
    start, end = torch.randn(2, len(lengths), T, generator=generator) * 3
    mask = (torch.arange(T) < torch.tensor(lengths)[:, None]).long()
    offsets = torch.full((len(lengths), T, 2), -1)
    for window, length in enumerate(lengths):
        for token in range(question, length - 1):
            offsets[window, token] = torch.tensor([10 * token + window, 10 * token + window + 4])
    return start, end, offsets, mask, torch.tensor(ids)


def reference(start, end, offsets, mask, ids, n_best, max_answer_length):
    """Write the official procedure down with loops: {question: (chars, score, null score)}."""
    found = {}
    for window, sample in enumerate(ids.tolist()):
        real = [token for token in range(len(mask[window])) if mask[window, token]]
        starts = sorted(real, key=lambda token: -start[window, token])[:n_best]
        ends = sorted(real, key=lambda token: -end[window, token])[:n_best]
        null = float(start[window, 0] + end[window, 0])
        spans, least = found.setdefault(sample, ([], []))
        least.append(null)
        for s in starts:
            for e in ends:
                in_context = offsets[window, s, 0] >= 0 and offsets[window, e, 0] >= 0
                if in_context and s <= e < s + max_answer_length:
                    chars = (int(offsets[window, s, 0]), int(offsets[window, e, 1]))
                    spans.append((float(start[window, s] + end[window, e]), chars))
    return {
        sample: (*reversed(max(spans, default=(0.0, (0, 0)))), min(least)) for sample, (spans, least) in found.items()
    }


@pytest.mark.parametrize(("n_best", "max_answer_length"), [(20, 30), (3, 4), (1, 30), (2, 1), (14, 2)])
@pytest.mark.parametrize("seed", range(20))
def test_the_best_spans_are_those_of_the_official_procedure(seed, n_best, max_answer_length):
    batch = make_batch(seed)
    spans = best_spans(*batch, n_best=n_best, max_answer_length=max_answer_length)
    expected = reference(*batch, n_best, max_answer_length)
    assert spans.sample_ids_N.tolist() == list(expected)
    chars, scores, nulls = zip(*expected.values(), strict=True)
    assert [tuple(pair) for pair in spans.chars_N2.tolist()] == list(chars)
    assert spans.score_N.tolist() == pytest.approx(scores)
    assert spans.null_score_N.tolist() == pytest.approx(nulls)


def test_windows_of_a_question_need_not_stand_together():
    batch = make_batch(0)
    order = [3, 0, 4, 2, 1]
    mixed, sorted_ = best_spans(*(value[order] for value in batch)), best_spans(*batch)
    assert mixed.sample_ids_N.tolist() == [2, 4, 9]
    assert mixed.score_N.tolist() == sorted_.score_N[[1, 0, 2]].tolist()
    assert mixed.chars_N2.tolist() == sorted_.chars_N2[[1, 0, 2]].tolist()


@pytest.mark.parametrize("fill", [-1, 0])
def test_padding_makes_no_difference_even_where_its_logits_are_the_best(fill):
    start, end, offsets, mask, ids = make_batch(1)
    more = torch.full((5, 6), 99.0)
    padded = best_spans(
        torch.cat([start, more], 1),
        torch.cat([end, more], 1),
        torch.cat([offsets, torch.full((5, 6, 2), fill)], 1),
        torch.cat([mask, torch.zeros(5, 6, dtype=torch.long)], 1),
        ids,
        n_best=2,
    )
    for one, other in zip(padded, best_spans(start, end, offsets, mask, ids, n_best=2), strict=True):
        assert torch.equal(one, other)


def test_without_a_span_nothing_is_answered_with_a_score_of_zero():
    start, end, offsets, mask, ids = make_batch(2)
    start[:, 9], end[:, 3] = 50.0, 50.0  # the only candidates are the wrong way round
    spans = best_spans(start, end, offsets, mask, ids, n_best=1)
    assert spans.chars_N2[1].tolist() == [0, 0]
    assert spans.score_N[1] == 0


def test_half_precision_is_scored_in_full():
    start, end, *others = make_batch(3)
    half = best_spans(start.bfloat16(), end.bfloat16(), *others)
    assert torch.equal(half.score_N, best_spans(start.bfloat16().float(), end.bfloat16().float(), *others).score_N)
