import torch
from hypothesis import given
from hypothesis import strategies as st

from axformer_lightning.tasks.lengths import LengthGroups


def batches_of(lengths, batch_size, seed=0):
    order = list(LengthGroups(batch_size, lengths=lengths, generator=torch.Generator().manual_seed(seed)))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


@given(st.lists(st.integers(1, 99), min_size=1, max_size=80), st.integers(1, 9), st.integers(0, 99))
def test_every_sample_comes_once_and_only_the_last_batch_is_short(lengths, batch_size, seed):
    batches = batches_of(lengths, batch_size, seed)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert batches == batches_of(lengths, batch_size, seed)


def test_samples_of_a_batch_are_about_equally_long_and_batches_do_not_go_from_long_to_short():
    lengths = torch.randint(5, 60, (4000,), generator=torch.Generator().manual_seed(1)).tolist()
    batches = batches_of(lengths, 32)
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)
    means = torch.tensor([sum(lengths[i] for i in batch) / len(batch) for batch in batches[:-1]])
    assert torch.corrcoef(torch.stack([means[:-1], means[1:]]))[0, 1].abs() < 0.3  # sorted ones: above 0.9
