"""Models that are made smaller by a ratio, without training."""

import pytest
import torch

from axformer_lightning import load_pretrained, save_pretrained, shrink
from axformer_lightning.budgets import Chooser, Effort, Probe, Tried, measure_table, shrink_, shuffled
from axformer_lightning.budgets.shrink import objective
from axformer_lightning.budgets.tables import Table
from axformer_lightning.costs import count_encoder_parameters, layer_sizes
from axformer_lightning.repair import block_order, measure_moments
from axformer_lightning.replay import scoring
from axformer_lightning.scoring import batches_by_length, step_of

LENGTHS = (9, 3, 12, 5, 7, 12, 4, 8) * 4
QUICK = Effort(table_samples=16, tries=3)


@pytest.fixture
def batches(tiny, family):
    return list(batches_by_length([tiny.batch(LENGTHS, tiny.pads[family], seed=3)], 48, tiny.pads[family]))


def mean_loss(model, batches):
    with torch.no_grad(), scoring(model, model):
        return torch.cat([step_of(model)(batch).loss_N for batch in batches]).mean().item()


@pytest.mark.one_implementation
@pytest.mark.parametrize("ratio", [1.3, 3])
def test_the_copy_is_that_many_times_smaller_and_the_model_is_unchanged(model, batches, state, ratio):
    before = state(model)
    small = shrink(model, batches, encoder_size_ratio=ratio, effort=QUICK)
    assert state(model) == before
    reached = count_encoder_parameters(model) / count_encoder_parameters(small)
    assert reached >= ratio  # more where a smaller model has a lower loss
    assert small.axformer_plan is not None


@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_the_same_call_gives_the_same_model_and_its_artifact_too(model, batches, tmp_path):
    small, again = (shrink(model, batches, encoder_size_ratio=2, effort=QUICK) for _ in range(2))
    save_pretrained(small, tmp_path / "model")
    loaded = load_pretrained(tmp_path / "model")
    for name, value in small.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        assert torch.equal(value, loaded.state_dict()[name])
    assert loaded.axformer_plan == small.axformer_plan


@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_a_slice_leaves_the_model_that_it_measured(model, batches):
    loss = mean_loss(model, batches)
    for tried in shrink_(model, model, shuffled(batches), 2.0, QUICK):
        after = mean_loss(model, batches)
        assert after - loss == pytest.approx(tried.damage.loss, abs=1e-4)
        loss = after


@pytest.fixture
def chooser(model, batches):
    with scoring(model, model):
        probe = Probe.of(model, model, shuffled(batches), measure_moments(model, model, batches))
        orders = {
            (i, kind): block_order(model, probe.moments, i, kind)
            for i in range(3)
            for kind in ("attention", "feed_forward")
        }
        sizes = layer_sizes(model)
        table: Table = measure_table(
            probe, orders, lambda name, width: sizes[name[0]].blocks[name[1]].parameters(width), objective
        )
        budget = 0.5 * sum(options[0].cost for options in table.values())
        yield Chooser(probe, table, orders, budget, objective)


@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_every_proposal_is_within_the_budget_and_the_best_is_taken(chooser):
    programs = [chooser.measure(choice) for choice in chooser.programs()]
    assert all(chooser.cost(tried.choice) <= chooser.budget for tried in programs)
    assert all(option.width is not None for tried in programs for option in options_of(chooser, tried))
    best = chooser.choose(tries=0)
    assert best.damage.loss == min(tried.damage.loss for tried in programs)
    swapped = chooser.choose(tries=20)
    assert swapped.damage.loss <= best.damage.loss
    assert chooser.cost(swapped.choice) <= chooser.budget


def options_of(chooser: Chooser, tried: Tried):
    return [chooser.table[name][at] for name, at in tried.choice.items()]


@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
@pytest.mark.parametrize(
    ("ratio", "message"),
    [
        (1, "above 1, got 1"),
        (float("nan"), "above 1, got nan"),
        (1e6, "of at most .*, where only norms are left, got 1e"),
    ],
)
def test_a_ratio_that_cannot_be_is_refused_before_anything_runs(model, batches, state, ratio, message):
    before = state(model)
    with pytest.raises(ValueError, match=message):
        list(shrink_(model, model, batches, ratio))
    assert state(model) == before
