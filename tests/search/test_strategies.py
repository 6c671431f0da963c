"""Other orders, several sweeps, other votes, and the statistical stop, on models."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy

from axformer_lightning import AccuracyDrivenPruningCallback, apply_plan_, find_plan
from axformer_lightning.anatomy import Candidate, SearchSpace, anatomy_of, layers_left, neuron_groups
from axformer_lightning.criteria import Rule
from axformer_lightning.scoring import batches_by_length, step_of
from axformer_lightning.search import Pruning, SearchSettings, search_plan
from axformer_lightning.search.first_order import predicted_changes

pytestmark = pytest.mark.one_implementation  # a search runs every layer eagerly

LENGTHS = (12, 3, 7, 12, 5, 9, 4, 11, 2, 8, 12, 6)
GROUPS = neuron_groups(48, 5)
STEP = 1e-3


@pytest.fixture
def batches(tiny, model):
    padding = model.config.pad_token_id or 0
    return list(batches_by_length([tiny.batch(LENGTHS, pad_token_id=padding, seed=5)], 24, padding))


def changes(model, batches):
    anatomy = anatomy_of(model)
    return predicted_changes(step_of(model), batches, model, anatomy, layers_left(model), SearchSpace(4, GROUPS))


@pytest.mark.parametrize("kind", ["attention", "feed_forward", "head", "neuron_group"])
def test_the_predicted_change_is_the_slope_of_the_loss(tiny, model, part, kind):
    """A component that is turned down a little changes the loss by as little of the prediction."""
    model.double()
    batches = [tiny.batch((9,) * 4, seed=seed) for seed in (5, 6)]  # in float64 ModernBERT has no masks for padding
    predicted = changes(model, batches)
    block = {"head": "attention", "neuron_group": "feed_forward"}.get(kind, kind)
    index = None if kind == block else 2
    features = {"head": slice(16, 24), "neuron_group": slice(*GROUPS[2])}.get(kind, slice(None))
    less, more = copy.deepcopy(model), copy.deepcopy(model)
    for other, factor in ((less, 1 - STEP), (more, 1 + STEP)):
        writer = part(other, 1, block)
        writer.weight.data[:, features] *= factor
        if kind == block and writer.bias is not None:
            writer.bias.data *= factor
    slope = (total(less, batches) - total(more, batches)) / (2 * STEP)
    assert predicted[Candidate(kind, 1, index)] == pytest.approx(slope, rel=5e-3, abs=1e-3)


def total(model, batches):
    with torch.no_grad():
        return sum(
            functional.cross_entropy(
                model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits,
                batch["labels"],
                reduction="sum",
            ).item()
            for batch in batches
        )


@pytest.mark.parametrize("frozen", [False, True])
def test_predicting_leaves_no_gradient_behind(model, batches, state, frozen):
    model.requires_grad_(not frozen)
    before = state(model)
    assert any(changes(model, batches).values())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert state(model) == before


@pytest.mark.slow
@pytest.mark.one_family
def test_best_first_tries_blocks_and_their_parts_in_the_predicted_order(model, batches):
    predicted = changes(model, batches)
    settings = {"hard_attention_k": None, "neuron_groups": 5, "inspection_factor": 1e9, "majority": 0.999}
    plan = find_plan(model, batches, strategy="best_first", batch_tokens=24, **settings)
    assert {d.accepted for d in plan.decisions} == {False}
    tried = [Candidate(d.kind, d.layer, d.index) for d in plan.decisions]
    blocks = [c for c in tried if c.index is None]
    assert [predicted[c] for c in blocks] == pytest.approx(sorted(predicted[c] for c in blocks))
    assert len(blocks) == 6
    assert blocks != sorted(blocks, key=lambda c: -c.layer)
    for block in blocks:
        kind = "head" if block.kind == "attention" else "neuron_group"
        parts = [predicted[c] for c in tried if (c.kind, c.layer) == (kind, block.layer)]
        assert parts == pytest.approx(sorted(parts))
    reference = find_plan(model, batches, batch_tokens=24, **settings)
    key = lambda d: (d.kind, d.layer, d.index)  # noqa: E731
    for one, other in zip(sorted(plan.decisions, key=str), sorted(reference.decisions, key=str), strict=True):
        assert key(one) == key(other)


@pytest.mark.one_family
def test_losses_without_gradient_cannot_be_predicted(model, batches):
    class Fixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        @torch.no_grad()
        def forward(self, input_ids, attention_mask):
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    with pytest.raises(ValueError, match=r"can be differentiated for strategy='best_first'"):
        find_plan(Fixed(), batches, strategy="best_first")


@pytest.mark.slow_but_first
@pytest.mark.one_family
@pytest.mark.parametrize("strategy", ["reference", "best_first"])
def test_sweeps_go_on_until_nothing_is_accepted(model, batches, strategy):
    def search(sweeps):
        settings = SearchSettings(pruning=Pruning(5, 2.0, strategy, sweeps), rule=Rule(majority=0))
        return search_plan(model, model, batches, settings)

    (once, _), (often, counts) = search(1), search(None)
    assert often.decisions[: len(once.decisions)] == once.decisions
    second = often.decisions[len(once.decisions) :]
    assert second
    removed = {(d.kind, d.layer, d.index) for d in once.decisions if d.accepted}
    assert removed.isdisjoint((d.kind, d.layer, d.index) for d in second)
    last = max(i for i, d in enumerate(often.decisions) if d.accepted)
    assert not any(d.accepted for d in often.decisions[last + 1 :])
    assert counts.evaluations <= 1 + len(often.decisions)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert"])
def test_a_vote_by_prediction_counts_samples_that_turn_wrong(model, batches):
    settings = {"hard_attention_k": None, "majority": 0.5, "full_scores": True, "neuron_groups": 5}
    by_loss, by_prediction = (
        find_plan(model, batches, vote=vote, batch_tokens=24, **settings) for vote in ("loss", "prediction")
    )
    shares = [[d.share_not_worse for d in plan.decisions[:1]] for plan in (by_loss, by_prediction)]
    assert shares[0] != shares[1]
    (first,) = by_prediction.decisions[:1]
    base, without = right(model, batches), right(without_last_feed_forward(model), batches)
    assert first.share_not_worse == (without | ~base).double().mean().item()


def right(model, batches):
    with torch.no_grad():
        return torch.cat([model(b["input_ids"], b["attention_mask"]).logits.argmax(-1) == b["labels"] for b in batches])


def without_last_feed_forward(model):
    writer = model.bert.encoder.layer[2].output.dense
    writer.weight.data.zero_()
    writer.bias.data.zero_()
    return model


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert"])
def test_loss_and_metric_have_to_agree(model, batches):
    metric = MulticlassAccuracy(3, average="micro")
    settings = {"hard_attention_k": None, "majority": 0, "neuron_groups": 5, "batch_tokens": 24}
    plan = find_plan(model, batches, criterion="loss_and_metric", metric=metric, **settings)
    accepted = [d for d in plan.decisions if d.accepted]
    assert accepted
    assert all(d.loss < d.best_before for d in accepted)
    assert all(d.metric >= d.metric_before for d in accepted)
    assert any(d.metric < d.metric_before for d in plan.decisions if d.loss is not None and d.loss < d.best_before)
    dense = right(model, batches).double().mean().item()
    assert plan.decisions[0].metric_before == pytest.approx(dense)
    best = apply_plan_(copy.deepcopy(model), plan)
    assert accepted[-1].metric == pytest.approx(right(best, batches).double().mean().item())
    assert find_plan(model, batches, criterion="loss_and_metric", **settings).layers == plan.layers
    loss_alone = find_plan(model, batches, full_scores=True, **settings)
    assert len(accepted) <= len([d for d in loss_alone.decisions if d.accepted])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert"])
def test_a_metric_beside_the_loss_alone_is_measured_and_decides_nothing(model, batches, caplog):
    settings = {"hard_attention_k": None, "majority": 0, "neuron_groups": 5, "batch_tokens": 24, "full_scores": True}
    metric = MulticlassAccuracy(3, average="micro")
    plan, alone = (find_plan(model, batches, criterion="loss", metric=given, **settings) for given in (metric, None))
    assert [replace(d, metric=None, metric_before=None) for d in plan.decisions] == list(alone.decisions)
    assert plan.layers == alone.layers
    assert plan.decisions[0].metric_before == pytest.approx(right(model, batches).double().mean().item())
    assert len({d.metric for d in plan.decisions}) > 1
    find_plan(model, batches, criterion="loss", metric=Zero(), **settings)
    assert "guarded nothing" not in caplog.text


class Zero(MulticlassAccuracy):
    def __init__(self):
        super().__init__(3)

    def compute(self):
        return 0 * super().compute()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert"])
def test_a_search_leaves_the_metric_of_its_user_as_it_is(model, batches):
    metric = MulticlassAccuracy(3, average="micro")
    metric.update(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]))
    settings = {"hard_attention_k": None, "majority": 0, "neuron_groups": 5, "batch_tokens": 24}
    plan = find_plan(model, batches, criterion="loss_and_metric", metric=metric, **settings)
    assert find_plan(model, batches, criterion=metric, **settings).decisions
    assert metric.update_count == 1
    assert metric.compute() == pytest.approx(2 / 3)
    fresh = MulticlassAccuracy(3, average="micro")
    assert find_plan(model, batches, criterion="loss_and_metric", metric=fresh, **settings) == plan


@pytest.mark.slow_but_first
@pytest.mark.parametrize("early_stop", ["exact", "statistical"])
@pytest.mark.parametrize("family", ["bert"])
def test_a_metric_beside_the_loss_lets_candidates_be_given_up(model, batches, early_stop):
    settings = {
        "hard_attention_k": 4, "criterion": "loss_and_metric", "metric": MulticlassAccuracy(3, average="micro"),
        "majority": 0, "neuron_groups": 5, "inspection_factor": 1.01, "batch_tokens": 24,
    }  # fmt: skip
    whole = find_plan(model, batches, full_scores=True, **settings)
    quick = find_plan(model, batches, early_stop=early_stop, **settings)
    assert [d.accepted for d in quick.decisions] == [d.accepted for d in whole.decisions]
    assert quick.layers == whole.layers
    assert None in {d.loss for d in quick.decisions}
    assert sum(d.samples_seen for d in quick.decisions) < sum(d.samples_seen for d in whole.decisions)
    assert any(d.accepted for d in quick.decisions)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert"])
def test_a_statistical_stop_gives_hopeless_candidates_up_and_harms_nothing(tiny, model):
    batch = tiny.batch(LENGTHS * 100, seed=5)
    with torch.no_grad():
        best = model(batch["input_ids"], batch["attention_mask"]).logits.argmax(-1)
    batch["labels"] = torch.where(torch.arange(len(best)) % 3 == 0, batch["labels"], best)  # every part is of use
    batches = list(batches_by_length([batch], 96))
    settings = {"pruning": Pruning(5, 1.05), "rule": Rule(majority=0)}
    exact, most = search_plan(model, model, batches, SearchSettings(**settings))
    quick, least = search_plan(model, model, batches, SearchSettings(**settings, early_stop="statistical"))
    assert least.layer_tokens < most.layer_tokens
    assert sum(d.samples_seen for d in quick.decisions) < 0.8 * sum(d.samples_seen for d in exact.decisions)
    assert [d.accepted for d in quick.decisions] == [d.accepted for d in exact.decisions]
    stopped = [d for d in quick.decisions if d.loss is None]
    assert stopped
    assert not any(d.accepted for d in stopped)
    assert all(d.samples_seen >= 32 for d in stopped)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"early_stop": "soon"}, "'exact' or 'statistical', got 'soon'"),
        ({"early_stop": "statistical", "full_scores": True}, "without `full_scores`"),
        ({"confidence": 1.0}, "above 0 and below 1, got 1.0"),
        ({"strategy": "greedy"}, "'reference' or 'best_first', got 'greedy'"),
        ({"sweeps": 0}, "at least 1, or None"),
        ({"vote": "mine"}, "'loss' or 'prediction', got 'mine'"),
        ({"batch_tokens": 0}, "`batch_tokens` to be at least 1"),
        ({"cache_memory": -1}, "at least 0, got -1"),
        ({"criterion": "metric"}, "Expected a metric"),
    ],
)
@pytest.mark.parametrize("family", ["bert"])
def test_settings_out_of_range_are_refused_at_once(model, batches, options, message):
    with pytest.raises(ValueError, match=message):
        find_plan(model, batches, **options)
    with pytest.raises(ValueError, match=message):
        AccuracyDrivenPruningCallback(**options)
