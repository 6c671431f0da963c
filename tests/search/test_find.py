"""The search, on tiny models, against the published procedure written out by hand."""

import copy
import math
import random
import sys
from dataclasses import replace

import lightning as L
import pytest
import torch
from torch import nn
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.regression import MeanSquaredError
from transformers import GPT2Config, GPT2LMHeadModel

from axformer_lightning import apply_plan_, find_plan
from axformer_lightning.anatomy import (
    KINDS,
    Candidate,
    HardAttention,
    LayerPlan,
    SearchSpace,
    anatomy_of,
    with_candidates,
)
from axformer_lightning.costs import count_encoder_parameters
from axformer_lightning.criteria import Rule
from axformer_lightning.plan import Plan
from axformer_lightning.replay.measuring import Meter
from axformer_lightning.search import Pruning, SearchSettings, Shortcuts, search_plan

TIE = 1e-5
LENGTHS = (3, 14, 9, 5, 12, 7, 14, 4, 8, 11, 6, 13, 3, 10, 5, 9, 12, 7, 4, 6)
NUM = len(LENGTHS)
GROUPS = ((0, 10), (10, 20), (20, 30), (30, 39), (39, 48))
THOROUGH = {"cache_memory": 0, "shortcuts": Shortcuts(False, False)}  # every layer is run, whatever is asked of it
SMALL = {"hard_attention_k": 4, "neuron_groups": 5, "batch_tokens": 400}
HASTY = SMALL | {"batch_tokens": 40}  # in batches of which the last are not always needed


@pytest.fixture
def implementation(family):
    """The search runs eagerly whatever the model's own implementation; one test shows that."""
    return "eager" if family in ("mpnet", "deberta-v2") else "sdpa"


@pytest.fixture
def search_set(tiny, family):
    return tiny.batch(LENGTHS, tiny.pads[family], seed=5)


class ByHand:
    """Losses of a model from which things are taken by writing zeros into a copy."""

    def __init__(self, model, names, batch, k, monkeypatch):
        self.model, self.names, self.batch, self.k = copy.deepcopy(model), names, batch, k
        self.model.set_attn_implementation("eager")
        self.hard = set()
        module = sys.modules[type(self.part(self.model, 0, "self_attention")).__module__]
        self.has_interface = hasattr(module, "eager_attention_forward")
        if self.has_interface:
            monkeypatch.setattr(module, "eager_attention_forward", self.attend)

    def part(self, model, layer, role):
        return model.base_model.get_submodule(self.names.at(layer, role))

    def attend(self, module, query, key, value, attention_mask, scaling=None, **kwargs):
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        weights = (scores if attention_mask is None else scores + attention_mask).softmax(-1)
        if module in self.hard:
            weights = self.harden(weights)
        return (weights @ value).transpose(1, 2).contiguous(), weights

    def harden(self, weights):
        return weights * (weights.argsort(-1, descending=True).argsort(-1) < self.k)

    @torch.no_grad()
    def losses(self, removed):
        model = copy.deepcopy(self.model)
        for kind, layer, index in removed:
            if kind == "hard_attention":
                if not self.has_interface:
                    weights = self.part(model, layer, "weights")
                    weights.register_forward_hook(lambda module, args, out: self.harden(out))
                continue
            writer = self.part(model, layer, "attention" if kind in ("attention", "head") else "feed_forward")
            if index is None:
                writer.weight.zero_()
                writer.bias.zero_()
            else:
                start, stop = (8 * index, 8 * index + 8) if kind == "head" else GROUPS[index]
                writer.weight[:, start:stop] = 0
        self.hard = {
            self.part(model, layer, "self_attention") for kind, layer, _ in removed if kind == "hard_attention"
        }
        logits = model(input_ids=self.batch["input_ids"], attention_mask=self.batch["attention_mask"]).logits
        self.hard = set()
        return functional.cross_entropy(logits, self.batch["labels"], reduction="none")


class Walk:
    """The published procedure, step by step beside the decisions of a plan.

    Where a number is within ``TIE`` of its bound both decisions are right, and the plan's is followed.
    """

    def __init__(self, plan, losses, factor, majority):
        self.plan, self.left = plan, list(plan.decisions)
        self.losses, self.factor, self.majority = losses, factor, majority
        self.base, self.accepted, self.clear = losses([]), [], 0
        self.best = self.base.mean().item()

    def run(self):
        for layer in (0, 1, 2):
            self.attempt("hard_attention", layer)
        for layer in (2, 1, 0):
            for block, part, count in (("feed_forward", "neuron_group", len(GROUPS)), ("attention", "head", 4)):
                if self.attempt(block, layer) and self.inspect(part, layer):
                    for index in range(count):
                        self.attempt(part, layer, index)
        assert self.left == []

    def attempt(self, kind, layer, index=None):
        """Check one decision; tell whether it was to reject."""
        decision = self.left.pop(0)
        assert (decision.kind, decision.layer, decision.index) == (kind, layer, index)
        loss = self.losses([*self.accepted, (kind, layer, index)])
        self.mean = loss.mean().item()
        least, most = ((loss <= self.base + tie).sum().item() for tie in (-TIE, TIE))
        right = {self.accepts(self.mean + TIE, least), self.accepts(self.mean - TIE, most)}
        assert decision.accepted in right
        assert decision.best_before == pytest.approx(self.best, abs=TIE)
        if decision.loss is not None:
            assert decision.loss == pytest.approx(self.mean, abs=TIE)
            assert least <= decision.share_not_worse * NUM <= most + 1e-9
        self.clear += len(right) == 1
        if decision.accepted:
            self.best, self.accepted = self.mean, [*self.accepted, (kind, layer, index)]
        return not decision.accepted

    def accepts(self, mean, votes):
        return mean < self.best and (self.majority == 0 or votes > math.floor(self.majority * NUM))

    def inspect(self, part, layer):
        bounds = [self.mean < self.factor * self.best + tie for tie in (-TIE, TIE)]
        follows = bool(self.left) and (self.left[0].kind, self.left[0].layer) == (part, layer)
        assert follows in bounds
        return follows


@pytest.mark.always
@pytest.mark.slow_but_first
def test_every_decision_is_that_of_the_published_procedure(model, names, search_set, monkeypatch):
    """Of every layout with every part of every block; the rule, which knows no family, is varied below."""
    walk = walked(model, names, search_set, monkeypatch, 0.5, 4.0)
    others = {"neurons_left", "heads_left", "int8_feed_forward", "int8_attention", "int8_embeddings"}
    assert {kind for kind, *_ in tried(walk.plan)} == {*KINDS} - others  # the first two are tried with repair only


@pytest.mark.slow_but_first
@pytest.mark.one_family
@pytest.mark.parametrize(("majority", "factor", "seed"), [(0.5, 1.1, 0), (0.5, 4.0, 1), (0, 1.1, 0), (0, 1.1, 1)])
def test_every_decision_is_that_of_the_published_procedure_whatever_the_rule(
    tiny, names, search_set, monkeypatch, majority, factor, seed
):
    walked(tiny.model("bert", "eager", seed=seed), names, search_set, monkeypatch, majority, factor)


def walked(model, names, search_set, monkeypatch, majority, factor):
    """Search, and walk beside the decisions."""
    plan = find_plan(model, [search_set], majority=majority, inspection_factor=factor, **HASTY)
    by_hand = ByHand(model, names, search_set, SMALL["hard_attention_k"], monkeypatch)
    walk = Walk(plan, by_hand.losses, factor, majority)
    walk.run()
    assert walk.clear > 0.8 * len(plan.decisions)
    assert {decision.accepted for decision in plan.decisions} == {True, False}
    assert walk.accepted == accepted(plan)
    return walk


def accepted(plan):
    return [(decision.kind, decision.layer, decision.index) for decision in plan.decisions if decision.accepted]


def tried(plan):
    return [(decision.kind, decision.layer, decision.index, decision.accepted) for decision in plan.decisions]


def mean_loss(model, batch):
    with torch.no_grad():
        return model(**batch).loss.item()


@pytest.mark.one_family
def test_the_layers_of_a_plan_are_what_its_decisions_say(model, search_set):
    plan = find_plan(model, [search_set], majority=0, inspection_factor=2, **SMALL)
    for i, layer in enumerate(plan.layers):
        found = {(kind, index) for kind, at, index in accepted(plan) if at == i}
        assert (layer.hard_attention is not None) == (("hard_attention", None) in found)
        assert (layer.attention == "removed") == (("attention", None) in found)
        assert (layer.feed_forward == "removed") == (("feed_forward", None) in found)
        assert set(layer.heads_removed) == {index for kind, index in found if kind == "head"}
        gone = {n for kind, index in found if kind == "neuron_group" for n in range(*GROUPS[index])}
        assert {n for start, stop in layer.neurons_removed for n in range(start, stop)} == gone


def test_applied_the_plan_reaches_the_loss_that_the_search_measured(model, search_set):
    plan = find_plan(model, [search_set], majority=0, **SMALL)
    reached = [decision.loss for decision in plan.decisions if decision.accepted][-1]
    assert mean_loss(apply_plan_(model, plan), search_set) == pytest.approx(reached, abs=TIE)


@pytest.mark.slow_but_first
@pytest.mark.one_implementation
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_every_decision_says_what_the_encoder_would_weigh(model, search_set):
    plan = find_plan(model, [search_set], majority=0, **SMALL)
    space = SearchSpace(plan.num_heads, GROUPS, HardAttention(4))
    kept = []
    for decision in plan.decisions:
        candidate = Candidate(decision.kind, decision.layer, decision.index)
        layers = with_candidates(anatomy_of(model).dense_layers(), [*kept, candidate], space)
        kept += [candidate] * decision.accepted
        cut = apply_plan_(copy.deepcopy(model), replace(plan, layers=layers))
        assert decision.encoder_parameters == count_encoder_parameters(cut)


def test_the_model_is_unchanged_afterwards(model, search_set, state):
    model.train()
    model.classifier.eval()
    before, rng = state(model), (torch.get_rng_state(), random.getstate())
    find_plan(model, [search_set], majority=0, **SMALL)
    assert state(model) == before
    assert torch.equal(torch.get_rng_state(), rng[0])
    assert random.getstate() == rng[1]
    assert torch.is_grad_enabled()


@pytest.mark.slow_but_first
def test_both_implementations_and_both_modes_lead_to_the_same_plan(tiny, family, implementation, search_set):
    models = [tiny.model(family), tiny.model(family, implementation), tiny.model(family, implementation).train()]
    first, *others = (find_plan(model, [search_set], **SMALL) for model in models)
    assert others == [first, first]


@pytest.mark.one_family
def test_batches_may_come_once_and_in_any_size(model, search_set):
    halves = ({name: value[rows] for name, value in search_set.items()} for rows in (slice(8), slice(8, None)))
    assert tried(find_plan(model, halves, **SMALL)) == tried(find_plan(model, [search_set], **SMALL))


@pytest.mark.slow_but_first
@pytest.mark.one_family
@pytest.mark.parametrize("majority", [0.5, 0])
def test_full_scores_change_no_decision_and_leave_no_gap(tiny, family, implementation, search_set, majority):
    model = tiny.model(family, implementation, seed=2)
    hasty, full = (
        find_plan(model, [search_set], majority=majority, full_scores=full, **HASTY) for full in (False, True)
    )
    assert tried(hasty) == tried(full)
    assert hasty.layers == full.layers
    assert any(decision.loss is None for decision in hasty.decisions)
    for decision in full.decisions:
        assert (decision.samples_seen, decision.loss is None, decision.share_not_worse is None) == (NUM, False, False)


@pytest.mark.one_family
def test_a_candidate_stopped_early_has_no_scores_and_was_not_accepted(model, search_set):
    for decision in find_plan(model, [search_set], **HASTY).decisions:
        stopped = decision.samples_seen < NUM
        assert (decision.loss is None, decision.share_not_worse is None) == (stopped, stopped)
        assert 0 < decision.samples_seen <= NUM
        assert not (stopped and decision.accepted)


@pytest.mark.one_family
@pytest.mark.parametrize("tolerance", [0.05, 0.5])
def test_the_tolerance_bounds_the_total(model, search_set, tolerance):
    base = mean_loss(model, search_set)
    plan = find_plan(model, [search_set], majority=0, tolerance=tolerance, full_scores=True, **SMALL)
    for decision in plan.decisions:
        bound = max(decision.best_before, (1 + tolerance) * base)
        assert decision.accepted == (decision.loss < bound) or decision.loss == pytest.approx(bound, abs=TIE)
    assert mean_loss(apply_plan_(model, plan), search_set) <= (1 + tolerance) * base + TIE


@pytest.mark.one_family
def test_a_tolerance_accepts_what_would_be_a_loss_without_it(model, search_set):
    plan = find_plan(model, [search_set], majority=0, tolerance=0.5, **SMALL)
    assert any(decision.accepted and decision.loss >= decision.best_before for decision in plan.decisions)


@pytest.mark.one_family
def test_hard_attention_that_changes_nothing_ties_and_is_rejected(model, search_set):
    plan = find_plan(model, [search_set], majority=0, **SMALL | {"hard_attention_k": max(LENGTHS)})
    first = plan.decisions[:3]
    assert [decision.kind for decision in first] == ["hard_attention"] * 3
    assert all(decision.loss == decision.best_before and decision.share_not_worse == 1 for decision in first)
    assert not any(decision.accepted for decision in first)


@pytest.mark.one_family
def test_no_hard_attention_is_tried_without_a_k(model, search_set):
    plan = find_plan(model, [search_set], **SMALL | {"hard_attention_k": None})
    assert plan.decisions[0].kind == "feed_forward"
    assert all(decision.kind != "hard_attention" for decision in plan.decisions)


@pytest.mark.one_family
def test_hard_attention_is_put_into_the_plan_as_it_was_asked_for(tiny, search_set, family):
    plan = find_plan(tiny.model(family, seed=1), [search_set], majority=0, renormalize=True, tolerance=9, **SMALL)
    assert {layer.hard_attention for layer in plan.layers} == {HardAttention(4, True)}


@pytest.fixture
def rounds(tiny, family, implementation, search_set):
    """The plans of two rounds, with the cut of the first between them."""
    model = tiny.model(family, implementation, seed=1)
    settings = SMALL | {"majority": 0, "inspection_factor": 2}
    first = find_plan(model, [search_set], **settings)
    return first, find_plan(apply_plan_(model, first), [tiny.batch(LENGTHS, tiny.pads[family], seed=6)], **settings)


@pytest.mark.one_family
def test_a_second_round_keeps_the_decisions_of_the_first(rounds):
    first, second = rounds
    assert second.decisions[: len(first.decisions)] == first.decisions
    assert {decision.round for decision in first.decisions} == {1}
    assert {decision.round for decision in second.decisions[len(first.decisions) :]} == {2}


@pytest.mark.one_family
def test_a_second_round_brings_nothing_back_and_tries_only_what_is_left(rounds):
    first, second = rounds
    for before, after in zip(first.layers, second.layers, strict=True):
        assert set(after.kept_heads(4)) <= set(before.kept_heads(4))
        assert set(after.kept_neurons(48)) <= set(before.kept_neurons(48))
        assert before.attention == "kept" or after.attention == "removed"
        assert before.feed_forward == "kept" or after.feed_forward == "removed"
        assert before.hard_attention is None or after.hard_attention == before.hard_attention
    again = {(d.kind, d.layer, d.index) for d in second.decisions if d.round == 2}
    assert again.isdisjoint(accepted(first))
    assert len(accepted(second)) > len(accepted(first))


@pytest.mark.slow_but_first
def test_a_second_round_starts_from_the_cut_model_and_measures_what_it_cuts_further(rounds, tiny, family):
    first, second = rounds
    model, samples = apply_plan_(tiny.model(family, seed=1), first), tiny.batch(LENGTHS, tiny.pads[family], seed=6)
    later = second.decisions[len(first.decisions) :]
    assert later[0].best_before == pytest.approx(mean_loss(model, samples), abs=TIE)
    reached = [decision.loss for decision in later if decision.accepted][-1]
    assert mean_loss(apply_plan_(model, second), samples) == pytest.approx(reached, abs=TIE)


@pytest.mark.one_family
def test_a_metric_decides_where_it_is_the_criterion(tiny, family, implementation, search_set):
    model = tiny.model(family, implementation, seed=2)
    trials, accuracy = [], MulticlassAccuracy(3, average="micro")
    plan = find_plan(model, [search_set], criterion=accuracy, majority=0, on_trial=trials.append, **SMALL)
    for trial in trials:
        assert trial.accepted == (trial.score.metric < trial.best_before.metric)
    reached = [-trial.score.metric for trial in trials if trial.accepted]
    assert reached == sorted(set(reached))
    with torch.no_grad():
        predicted = apply_plan_(model, plan)(**search_set).logits.argmax(-1)
    assert reached[-1] == pytest.approx((predicted == search_set["labels"]).float().mean().item())


@pytest.mark.slow
@pytest.mark.one_family
def test_the_named_metric_is_the_metric(model, search_set):
    accuracy = MulticlassAccuracy(3, average="micro")
    plans = [
        find_plan(model, [search_set], majority=0, **SMALL | settings)
        for settings in ({"criterion": accuracy}, {"criterion": "metric", "metric": accuracy}, {"metric": accuracy})
    ]
    assert plans[0] == plans[1]
    untold = [replace(step, metric=None, metric_before=None) for step in plans[2].decisions]
    by_loss = find_plan(model, [search_set], majority=0, **SMALL)
    assert replace(plans[2], decisions=tuple(untold)) == by_loss  # it is told, and decides nothing
    assert [step.metric for step in plans[2].decisions] != [None] * len(untold)


@pytest.mark.one_family
def test_a_metric_of_which_less_is_better_is_not_turned_around(tiny, family, search_set):
    model = tiny.model(family, num_labels=1)
    search_set["labels"] = torch.randn(NUM, generator=torch.Generator().manual_seed(1))
    by_metric = find_plan(model, [search_set], criterion=MeanSquaredError(), **SMALL)
    assert tried(by_metric) == tried(find_plan(model, [search_set], full_scores=True, **SMALL))


class Wrapper(L.LightningModule):
    """Scores a model by the step of its own; it fails in the given passes over the search set, 0 before the first."""

    def __init__(self, model, broken=()):
        super().__init__()
        self.model, self.broken, self.passes = model, broken, 0

    def axformer_step(self, batch):
        logits = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        loss_N = functional.cross_entropy(logits, batch["labels"], reduction="none")
        return loss_N * (math.nan if self.passes in self.broken else 1), logits, batch["labels"]


@pytest.mark.one_family
def test_a_module_around_the_model_is_scored_by_its_own_step(model, search_set):
    plan = find_plan(Wrapper(model), [search_set], **SMALL)
    assert tried(plan) == tried(find_plan(model, [search_set], **SMALL))
    assert all(decision.loss is not None for decision in plan.decisions)  # its losses may be negative


@pytest.mark.one_family
@pytest.mark.parametrize(
    ("broken", "named"),
    [({0, 1}, "the model before the search"), ({2}, "hard_attention of layer 0"), ({5}, "feed_forward of layer 2")],
)
def test_a_loss_that_is_no_number_names_the_candidate(model, search_set, state, monkeypatch, broken, named):
    before, wrapper, measure = state(model), Wrapper(model, broken), Meter.measure

    def count(self, *args):
        wrapper.passes += 1
        return measure(self, *args)

    monkeypatch.setattr(Meter, "measure", count)
    with pytest.raises(ValueError, match=f"finite losses .*nan while scoring {named}"):
        find_plan(wrapper, [search_set], **SMALL)
    assert state(model) == before


@pytest.mark.one_family
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_weight_is_noticed_before_the_search(model, search_set, part, state, value):
    part(model, 1, "feed_forward").weight.data[3, 5] = value
    before = state(model)
    with pytest.raises(ValueError, match="before the search"):
        find_plan(model, [search_set], **SMALL)
    assert state(model) == before


@pytest.mark.one_family
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("after", [1, 4, 7])
def test_an_error_in_the_middle_of_a_search_leaves_the_model_as_it_was(model, search_set, state, after):
    trials = []

    def interrupt(trial):
        trials.append(trial)
        if len(trials) == after:
            raise KeyboardInterrupt

    model.train()
    before = state(model)
    with pytest.raises(KeyboardInterrupt):
        find_plan(model, [search_set], on_trial=interrupt, **SMALL)
    assert state(model) == before
    assert torch.is_grad_enabled()


@pytest.mark.one_family
def test_every_trial_is_told_in_order(model, search_set):
    trials = []
    plan = find_plan(model, [search_set], on_trial=trials.append, **SMALL)
    told = [(trial.candidate.kind, trial.candidate.layer, trial.candidate.index, trial.accepted) for trial in trials]
    assert told == tried(plan)


@pytest.mark.one_family
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"hard_attention_k": 0}, "k=0"),
        ({"majority": 1}, "`majority` .* got 1"),
        ({"majority": -0.5}, "`majority` .* got -0.5"),
        ({"tolerance": -1}, "`tolerance` .* got -1"),
        ({"strategy": "x"}, "`strategy` .* got 'x'"),
        ({"criterion": "x"}, "`criterion` .* got 'x'"),
        ({"criterion": "metric"}, "metric to decide by"),
        ({"neuron_groups": 0}, "`neuron_groups` .* got 0"),
        ({"neuron_groups": 49}, "`neuron_groups` between 1 and the intermediate size 48, got 49"),
        ({"inspection_factor": 0}, "`inspection_factor` .* got 0"),
        ({"inspection_factor": math.nan}, "`inspection_factor` .* got nan"),
    ],
    ids=str,
)
def test_a_setting_out_of_range_is_named(model, search_set, state, settings, named):
    before = state(model)
    with pytest.raises(ValueError, match=named):
        find_plan(model, [search_set], **SMALL | settings)
    assert state(model) == before


def test_a_model_of_an_unknown_family_is_refused_with_the_hint(search_set):
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=50))
    with pytest.raises(ValueError, match=r"'gpt2'.*register_family"):
        find_plan(model, [search_set])


@pytest.mark.one_family
def test_what_could_not_be_cut_is_refused_before_anything_is_scored(model, search_set, state):
    attention = model.bert.encoder.layer[1].attention
    attention.output.dense = nn.Sequential(attention.output.dense)  # as an adapter wraps it
    before = state(model)
    unread = iter([search_set])
    with pytest.raises(
        ValueError, match=r"plain torch.nn.Linear at 'bert.encoder.layer.1.attention.output.dense'.*PEFT"
    ):
        find_plan(model, unread, **SMALL)
    assert state(model) == before
    assert next(unread) is search_set


@pytest.mark.one_family
@pytest.mark.parametrize(("field", "value"), [("is_decoder", True), ("pruned_heads", {0: [1]})])
def test_a_config_that_cannot_be_followed_is_refused(model, search_set, field, value):
    setattr(model.config, field, value)
    with pytest.raises(ValueError, match=field):
        find_plan(model, [search_set], **SMALL)


@pytest.mark.one_family
def test_a_module_with_no_or_several_models_is_refused(tiny, family, search_set):
    with pytest.raises(ValueError, match="found none"):
        find_plan(nn.Linear(2, 2), [search_set])
    two = nn.ModuleDict({"teacher": tiny.model(family), "student": tiny.model(family)})
    with pytest.raises(ValueError, match=r"\['teacher', 'student'\]"):
        find_plan(two, [search_set])


@pytest.mark.one_family
@pytest.mark.parametrize(
    ("empty", "message"),
    [([], "at least one sample"), ([{}], r"hold what `\w+.forward` takes, .*'input_ids'.*, got \[\]")],
)
def test_an_empty_search_set_is_refused(model, empty, message):
    with pytest.raises(ValueError, match=message):
        find_plan(model, empty, **SMALL)


@pytest.mark.one_family
@pytest.mark.parametrize("settings", [{"head_mask": torch.ones(NUM, 4)}, {"labels": torch.ones(NUM, 5)}])
def test_a_search_set_that_cannot_be_scored_leaves_the_model_as_it_was(model, search_set, state, settings):
    before = state(model)
    with pytest.raises(ValueError, match=r"head_mask|labels"):
        find_plan(model, [search_set | settings], **SMALL)
    assert state(model) == before


def test_a_search_for_nothing_is_refused():
    with pytest.raises(ValueError, match="got none"):
        SearchSettings()


@pytest.mark.one_family
def test_the_work_is_counted(model, search_set):
    settings = SearchSettings(hard_attention=HardAttention(4), full_scores=True, max_length=20, **THOROUGH)
    plan, counts = search_plan(model, model, [search_set], settings)
    assert (counts.candidates, counts.evaluations) == (len(plan.decisions), len(plan.decisions) + 1) == (3, 4)
    assert counts.accepted == len(accepted(plan))
    assert counts.layer_tokens == pytest.approx(4 * 3 * NUM * max(LENGTHS))
    assert counts.exhaustive_layer_tokens == 3 * 3 * NUM * 20


@pytest.mark.one_family
def test_a_closed_block_costs_no_work(model, search_set):
    settings = SearchSettings(pruning=Pruning(5, 0.001), rule=Rule(majority=0.999), full_scores=True, **THOROUGH)
    _, counts = search_plan(model, model, [search_set], settings)
    assert (counts.candidates, counts.accepted) == (6, 0)
    assert counts.layer_tokens == pytest.approx((3 + 6 * 3 - 3) * NUM * max(LENGTHS))


@pytest.mark.one_family
def test_half_a_layer_costs_half_the_work(model, search_set):
    half = LayerPlan("kept", (0, 3), "kept", ((12, 36),))
    apply_plan_(model, Plan(model.config.model_type, 3, 4, 48, (half,) * 3))
    settings = SearchSettings(hard_attention=HardAttention(4), full_scores=True, **THOROUGH)
    _, counts = search_plan(model, model, [search_set], settings)
    assert counts.layer_tokens == pytest.approx(4 * 3 * NUM * max(LENGTHS) / 2)


@pytest.mark.one_family
def test_a_removed_block_costs_no_work(model, search_set):
    model = apply_plan_(model, find_plan(model, [search_set], majority=0, tolerance=99, **SMALL))
    _, counts = search_plan(model, model, [search_set], SearchSettings(pruning=Pruning(5), **THOROUGH))
    assert counts.layer_tokens == 0


@pytest.mark.one_family
def test_groups_of_unequal_size_are_reported(model, search_set, caplog):
    find_plan(model, [search_set], **SMALL)
    assert "5 neuron groups do not divide the intermediate size 48: the first 3 groups" in caplog.text


@pytest.fixture
def half_labelled(search_set):
    """A search set of which every other sample, and one whole batch, has no label; and what has one alone."""
    labels = search_set["labels"].clone()
    labels[::2] = labels[:5] = -100
    batches = [
        {name: value[at : at + 5] for name, value in (search_set | {"labels": labels}).items()}
        for at in range(0, NUM, 5)
    ]
    real = labels != -100
    return batches, {name: value[real] for name, value in search_set.items()}


@pytest.mark.slow_but_first
@pytest.mark.one_family
@pytest.mark.parametrize("options", [{}, {"vote": "prediction"}, {"criterion": MulticlassAccuracy(3)}], ids=str)
def test_samples_without_a_label_do_not_count(model, half_labelled, options):
    batches, real = half_labelled
    found, expected = (find_plan(model, given, **SMALL, full_scores=True, **options) for given in (batches, [real]))
    assert found.decisions[0].samples_seen == len(real["labels"])
    assert tried(found) == tried(expected)
    for one, other in zip(found.decisions, expected.decisions, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert one.share_not_worse == other.share_not_worse


@pytest.mark.one_family
def test_samples_without_a_label_do_not_count_in_batches_that_stay(model, half_labelled):
    batches, real = half_labelled
    settings = SearchSettings(pruning=Pruning(4), rule=Rule(criterion="metric", metric=MulticlassAccuracy(3)))
    plan, _ = search_plan(model, model, batches, settings)
    assert plan.decisions[0].samples_seen == len(real["labels"])
    assert tried(plan) == tried(search_plan(model, model, [real], settings)[0])
