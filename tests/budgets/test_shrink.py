"""Models that are made smaller by a ratio, without training."""

import copy
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from threading import Barrier

import pytest
import torch
from torch import nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import BinaryAccuracy, MulticlassAccuracy, MulticlassAUROC
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from axformer_lightning import load_pretrained, save_pretrained, shrink
from axformer_lightning.anatomy import LayerPlan, anatomy_of, layers_left
from axformer_lightning.budgets import (
    Budget,
    Chooser,
    Damage,
    Effort,
    Probe,
    Tried,
    measure_table,
    shrink_,
    split_floor,
    targets_of,
    widths_of,
)
from axformer_lightning.budgets import targets as targets_module
from axformer_lightning.budgets.shrink import STEP, objective
from axformer_lightning.budgets.tables import Option, Table
from axformer_lightning.costs import (
    Conditions,
    LatencyTable,
    count_encoder_parameters,
    count_parameters,
    layer_sizes,
    macs_per_sample,
)
from axformer_lightning.repair import block_order, measure_moments
from axformer_lightning.replay import Ranks, scoring
from axformer_lightning.scoring import batches_by_length, shuffled, step_of

LENGTHS = (9, 3, 12, 5, 7, 12, 4, 8) * 4
SHRINK = sys.modules["axformer_lightning.budgets.shrink"]  # whose name in the package is that of the function
QUICK = Effort(table_samples=16, tries=3)
HEADS = {
    "classes": AutoModelForSequenceClassification,
    "labels": AutoModelForSequenceClassification,
    "tokens": AutoModelForTokenClassification,
    "spans": AutoModelForQuestionAnswering,
}


class Undefined(Metric):
    """Has no value, as a correlation with labels that are all the same."""

    def update(self, preds, target):
        pass

    def compute(self):
        return torch.tensor(float("nan"))


@pytest.fixture
def batches(tiny, family):
    return list(batches_by_length([tiny.batch(LENGTHS, tiny.pads[family], seed=3)], 48, tiny.pads[family]))


def mean_loss(model, batches):
    with torch.no_grad(), scoring(model, model):
        return torch.cat([step_of(model)(batch).loss_N for batch in batches]).mean().item()


@pytest.mark.always
@pytest.mark.slow_but_first
@pytest.mark.one_implementation
@pytest.mark.parametrize("ratio", [pytest.param(1.3, marks=pytest.mark.one_family), 3])
def test_the_copy_is_that_many_times_smaller_and_the_model_is_unchanged(model, batches, state, ratio):
    before = state(model)
    small = shrink(model, batches, encoder_size_ratio=ratio, effort=QUICK)
    assert state(model) == before
    reached = count_encoder_parameters(model) / count_encoder_parameters(small)
    assert reached >= ratio  # more where a smaller model has a lower loss
    assert small.axformer_plan is not None


@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_a_module_that_learns_by_another_loss_is_refused_as_by_a_search(model, batches):
    class Smoothed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, **batch):
            batch.pop("labels", None)
            return self.model(**batch).logits

        def training_step(self, batch, batch_idx):
            return torch.nn.functional.cross_entropy(self(**batch), batch["labels"], label_smoothing=0.9)

    with pytest.raises(ValueError, match="would score a mean cross-entropy"):
        shrink(Smoothed(), batches, encoder_size_ratio=1.5, effort=QUICK)


@pytest.mark.slow
@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_modes_of_torch_around_a_call_change_nothing(model, batches):
    def small(*modes):
        with ExitStack() as within:
            for mode in modes:
                within.enter_context(mode)
            return shrink(model, batches, encoder_size_ratio=3, effort=QUICK).state_dict()

    def same(one, other):
        return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())

    assert same(small(), small(torch.inference_mode()))
    halves = {"device_type": "cpu", "dtype": torch.bfloat16}
    assert same(small(torch.autocast(**halves)), small(torch.autocast(**halves, cache_enabled=False)))


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_a_slice_leaves_the_model_that_it_measured(model, batches):
    loss = mean_loss(model, batches)
    budget = Budget({"encoder_size_ratio": 2}, QUICK)
    for piece in shrink_(model, model, batches, budget):
        after = mean_loss(model, batches)
        assert after - loss == pytest.approx(piece.damage.loss, abs=1e-4)
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


@pytest.mark.slow
@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_every_proposal_is_within_the_budget_and_the_best_is_taken(chooser):
    programs = [chooser.measure(choice) for choice in chooser.programs()]
    assert all(chooser.cost(tried.choice) <= chooser.budget for tried in programs)
    assert all(option.width is not None for tried in programs for option in options_of(chooser, tried))
    best = chooser.choose(tries=0)
    assert best.damage.divergence == min(tried.damage.divergence for tried in programs)
    swapped = chooser.choose(tries=20)
    assert swapped.damage.divergence <= best.damage.divergence
    assert chooser.cost(swapped.choice) <= chooser.budget


@pytest.mark.slow
@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_what_the_table_says_of_a_narrow_block_and_of_none_is_measured(chooser):
    """From narrower ones the damage of a removed block cannot be told: steps of noise would grow to anything."""
    whole = dict.fromkeys(chooser.table, 0)
    for name, options in chooser.table.items():
        for at, option in enumerate(options):
            if option.width is None or option.width == options[0].width // 2:
                measured = chooser.measure({**whole, name: at}).damage
                assert option.damage == pytest.approx(measured.divergence, abs=1e-6)


def options_of(chooser: Chooser, tried: Tried):
    return [chooser.table[name][at] for name, at in tried.choice.items()]


@pytest.mark.slow
@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_of_several_targets_all_are_reached(model, batches):
    asked = {"macs_ratio": 1.4, "file_size_ratio": 1.3, "latency_ms": 2.0}
    widths = {(i, kind): 4 if kind == "attention" else 48 for i in range(3) for kind in ("attention", "feed_forward")}
    targets = targets_of(model, Budget({**asked, "tokens": 12, "latency_table": latency_table(model)}))
    assert not any(target.is_reached(widths) for target in targets)
    small = shrink(model, batches, effort=QUICK, tokens=12, latency_table=latency_table(model), **asked)
    left = widths_of(anatomy_of(small), layers_left(small))
    assert all(target.is_reached(left) for target in targets)
    assert macs_per_sample(model, 12) / macs_per_sample(small, 12) >= 1.4
    assert count_parameters(model) / count_parameters(small) >= 1.3
    assert latency_table(model).predict_ms(small.axformer_plan.layers) <= 2.0


@pytest.mark.slow
@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_a_floor_ends_it_before_more_is_lost_than_allowed(model, batches, monkeypatch):
    own = [{**batch, "labels": model(**batch).logits.argmax(-1)} for batch in batches]  # so the dense accuracy is 1
    own = [batch for batch in own for _ in range(3)]
    metric = MulticlassAccuracy(3, average="micro")
    monkeypatch.setattr("axformer_lightning.budgets.floor.FLOOR_RESAMPLES", 100)
    small = {most: shrink(model, own, effort=QUICK, metric_floor=most, metric=metric) for most in (0.0, 0.5)}
    sizes = {most: count_encoder_parameters(smaller) for most, smaller in small.items()}
    assert sizes[0.5] < sizes[0.0] <= count_encoder_parameters(model)
    _, floor = split_floor(model, model, shuffled(own), Budget({"metric_floor": 0.5, "metric": metric}))
    assert floor.lost() == 0.0
    again = replace(floor, step=step_of(small[0.5].eval()))
    with torch.no_grad():
        assert again.lost() <= 0.5
    assert metric.update_count == 0


def rows(batches):
    return sorted(tuple(row.tolist()) for batch in batches for row in batch["input_ids"])


@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert", "vit"])
@pytest.mark.parametrize("sizes", [(90,), (40, 1, 40), (3,) * 30])
def test_a_third_of_the_samples_tests_the_floor_however_they_are_batched(model, tiny, family, sizes):
    given = [tiny.images(n, i) if family == "vit" else tiny.batch((9,) * n, seed=i) for i, n in enumerate(sizes)]
    budget = Budget({"metric_floor": 0.5, "metric": MulticlassAccuracy(3)})
    choosing, floor = split_floor(model, model, given, budget)
    assert sum(len(batch["labels"]) for batch in floor.batches) == sum(sizes) / 3
    if family == "bert":
        assert sorted(rows(choosing) + rows(floor.batches)) == rows(given)
    assert all(len(batch["labels"]) for batch in (*choosing, *floor.batches))


class Scores(nn.Module):
    """Scores its batches itself, by any function of one logit and the labels."""

    def __init__(self, model, losses):
        super().__init__()
        self.model, self.losses = model, losses

    def axformer_step(self, batch):
        logits = self.model(batch["input_ids"], batch["attention_mask"]).logits
        return self.losses(logits[:, 0], batch["labels"]), logits.argmax(-1), batch["labels"]


@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_samples_that_share_a_batch_are_not_divided_for_the_floor(model, tiny):
    module, budget = Scores(model, lambda x, y: x**2), Budget({"metric_floor": 0.5, "metric": MulticlassAccuracy(3)})
    given = [tiny.batch((9,) * 30, seed=i) for i in range(6)]
    choosing, floor = split_floor(module, model, given, budget)
    assert floor.batches == [given[0], given[3]]
    assert choosing == [given[1], given[2], given[4], given[5]]
    with pytest.raises(ValueError, match="at least 3 batches with `metric_floor`, as a third of them tests it, got 2"):
        split_floor(module, model, given[:2], budget)


@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (MulticlassAUROC(3), "takes predictions .* got MulticlassAUROC: ValueError"),
        (MulticlassAUROC(3, thresholds=5), "takes predictions .* got MulticlassAUROC"),
        (BinaryAccuracy(), "takes predictions .* got BinaryAccuracy: RuntimeError"),
        (Undefined(), "Undefined to have a value on the samples that test `metric_floor`, got nan"),
        (MetricCollection([MulticlassAccuracy(3)]), "`metric=`, a torchmetrics metric, .* got MetricCollection"),
        ("accuracy", "`metric=`, a torchmetrics metric, with `metric_floor`, got str"),
        (None, "`metric=`, a torchmetrics metric, with `metric_floor`, got none"),
    ],
)
def test_a_metric_that_cannot_tell_the_floor_is_refused_before_anything_is_cut(
    model, batches, metric, message, monkeypatch
):
    monkeypatch.setattr(SHRINK, "measure_moments", None)
    with pytest.raises(ValueError, match=message):
        shrink(model, batches * 3, effort=QUICK, metric_floor=0.5, metric=metric)


@pytest.mark.slow
@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_a_step_that_is_reported_was_tried(model, batches, monkeypatch, caplog):
    tried, budget_of = [], SHRINK._budget
    monkeypatch.setattr(SHRINK, "_budget", lambda *args: tried.append(args[2]) or budget_of(*args))
    monkeypatch.setattr("axformer_lightning.budgets.floor.Floor.lost", lambda self: 1.0)
    own = [*batches] * 3
    small = shrink(model, own, effort=QUICK, metric_floor=0.5, metric=MulticlassAccuracy(3))
    assert count_encoder_parameters(small) == count_encoder_parameters(model)
    assert tried == [STEP, STEP**0.5, STEP**0.25]
    assert f"with a model {tried[-1]:.2f} times smaller up to 1.0000" in caplog.text


@pytest.mark.slow
@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_losses_that_are_no_numbers_are_the_worst_and_never_left(model, batches):
    most = max(model(**batch).logits[:, 0].max().item() for batch in batches)
    module = Scores(model, lambda x, y: (most + 0.1 - x).log())  # no number where a cut gives more
    small = shrink(module, batches, encoder_size_ratio=1.2, effort=Effort(16, 8))
    with torch.no_grad():
        assert all(small.axformer_step(batch)[0].isfinite().all() for batch in batches)


@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_a_model_is_refused_that_no_cut_leaves_with_losses_that_are_numbers(model, batches, state):
    known = torch.cat([model(**batch).logits[:, 0] for batch in batches])
    module = Scores(model, lambda x, y: torch.where((x[:, None] - known).abs().min(1).values > 1e-4, torch.inf, 0.0))
    before = state(model)
    with pytest.raises(ValueError, match="Expected losses that are numbers of some model that is small enough"):
        shrink(module, batches, encoder_size_ratio=2, effort=QUICK)
    assert state(model) == before


@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
@pytest.mark.parametrize("label", [float("nan"), float("inf")])
def test_a_label_that_is_no_number_is_refused_wherever_it_stands(model, batches, label):
    numbers = [{**batch, "labels": batch["labels"].float()} for batch in batches]
    numbers[-1]["labels"][-1] = label
    with pytest.raises(ValueError, match=f"finite losses on the search set, got {label}.* The model is unchanged"):
        shrink(Scores(model, lambda x, y: (x - y) ** 2), numbers, encoder_size_ratio=2, effort=QUICK)


def latency_table(model):
    blocks = {"attention": ((0, 0.1), (4, 0.5)), "feed_forward": ((0, 0.0), (48, 0.5))}
    return LatencyTable(Conditions.of(model, 1, 12), 0.5, blocks)


@pytest.mark.one_family
def test_equal_shares_are_shares_of_units_and_remove_no_block(chooser):
    def options(*widths):
        return tuple(Option(width, float(width or 0), 0.0, 0.0) for width in (*widths, None))

    few, many = options(5, 4, 3, 2, 1), options(64, 56, 48, 40, 32, 24, 16, 8, 4)
    table = {(0, "attention"): few, (0, "feed_forward"): many}
    (choice,) = replace(chooser, table=table, budget=28.0)._equal_shares()
    widths = {kind: table[layer, kind][at].width for (layer, kind), at in choice.items()}
    assert widths == {"attention": 2, "feed_forward": 24}
    (least,) = replace(chooser, table=table, budget=5.0)._equal_shares()
    assert None not in {table[name][at].width for name, at in least.items()}


def in_two_processes(work, monkeypatch):
    """Run ``work(ranks)`` as two processes would, as threads of this one; they have to make the same calls."""
    barrier, said = Barrier(2, timeout=60), [[], []]

    class Thread(Ranks):
        def gather(self, values):
            said[self.rank] = list(values)
            barrier.wait()
            everyones = [list(own) for own in said]
            barrier.wait()
            assert len(everyones[0]) == len(everyones[1])  # else each is in another call
            return everyones

        def total(self, sums):
            rows = self.gather(sums.flatten().tolist())
            return (sums.new_tensor(rows[0]) + sums.new_tensor(rows[1])).view_as(sums)

    def run(rank):
        try:
            return work(Thread(rank, 2))
        except BaseException:
            barrier.abort()
            raise

    monkeypatch.setattr(torch.compiler, "set_stance", lambda *_: nullcontext())  # one for all threads
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(run, (0, 1)))


@pytest.mark.slow
@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
@pytest.mark.parametrize("target", ["encoder_size_ratio", "speedup"])
def test_processes_with_unequal_shares_and_clocks_choose_alike(model, batches, target, monkeypatch):
    shares = [batches[:1], batches[1:]]
    assert len(batches) > 3
    clocks = iter([(1.0, 3.0), (1.0, 1.5)])

    def measure_latency(model, **batch):
        table, factors = latency_table(model), next(clocks)
        blocks = {
            kind: tuple((units, ms * factor) for units, ms in rungs)
            for (kind, rungs), factor in zip(table.blocks.items(), factors, strict=True)
        }
        return replace(table, blocks=blocks)

    monkeypatch.setattr(targets_module, "measure_latency", measure_latency)

    def work(ranks):
        own = copy.deepcopy(model)
        budget = Budget({target: 2.0, "tokens": 12}, Effort(table_samples=4, tries=12))
        slices = list(shrink_(own, own, shares[ranks.rank], budget, ranks=ranks))
        return [piece.widths for piece in slices], own.state_dict()

    (widths, state), (others, other) = in_two_processes(work, monkeypatch)
    assert widths == others
    assert all(torch.equal(value, other[name]) for name, value in state.items())


@pytest.mark.slow
@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_processes_with_unequal_shares_give_up_a_choice_together(model, batches, monkeypatch):
    small_first = sorted(batches, key=lambda batch: len(batch["labels"]))
    shares = [small_first[:1], small_first[1:]]

    def work(ranks):
        own = copy.deepcopy(model)
        with scoring(own, own):
            moments = measure_moments(own, own, shares[ranks.rank], ranks=ranks)
            probe = Probe.of(own, own, shares[ranks.rank], moments, ranks=ranks)
            orders = {name: block_order(own, moments, *name) for name in moments.blocks}
            table = measure_table(probe, orders, lambda name, width: width or 0, objective)
            narrow, whole = (dict.fromkeys(table, at) for at in (1, 0))
            beyond = Tried(whole, probe.replay.before, Damage(-9.0, -9.0, 0.0, len(LENGTHS)))
            return Chooser(probe, table, orders, 0.0, objective).measure(narrow, beyond).damage

    one, other = in_two_processes(work, monkeypatch)
    assert one == other
    assert len(LENGTHS) // 3 <= one.samples < len(LENGTHS)


def of_choices(tiny, batches, head):
    """A model with a head that chooses, its texts, and labels for them that mean nothing."""
    kind = {"labels": {"problem_type": "multi_label_classification"}, "spans": {"num_labels": 2}}.get(head, {})
    model = tiny.model("bert", auto=HEADS[head], **kind)
    texts = [{name: value for name, value in batch.items() if name != "labels"} for batch in batches]
    zeros = [torch.zeros_like(batch["labels"]) for batch in batches]
    labels = {
        "classes": lambda i: {"labels": zeros[i]},
        "labels": lambda i: {"labels": torch.zeros(len(zeros[i]), 3)},
        "spans": lambda i: {"start_positions": zeros[i], "end_positions": zeros[i]},
        "tokens": lambda i: {"labels": texts[i]["attention_mask"] - 1 - 99 * (texts[i]["attention_mask"] == 0)},
    }[head]
    return model, texts, [{**text, **labels(i)} for i, text in enumerate(texts)]


@pytest.mark.slow_but_first
@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
@pytest.mark.parametrize("head", HEADS)
def test_what_labels_say_chooses_nothing_where_a_model_chooses_itself(tiny, batches, head):
    """Some hundred labels are chance; and the answers are those of the model as it was given, in all slices."""
    model, texts, labelled = of_choices(tiny, batches, head)
    plans = [shrink(model, given, encoder_size_ratio=3, effort=QUICK).axformer_plan for given in (labelled, texts)]
    assert plans[0] == plans[1]
    assert all(text.keys() == {"input_ids", "attention_mask"} for text in texts)


@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_a_floor_asks_for_labels(model, batches):
    texts = [{name: value for name, value in batch.items() if name != "labels"} for batch in batches]
    with pytest.raises(ValueError, match="Expected `labels` in every batch"):
        shrink(model, texts, effort=QUICK, metric_floor=0.5, metric=MulticlassAccuracy(3))


@pytest.mark.slow
@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_samples_without_a_label_do_not_count(model, batches):
    unlabelled = [{**batch, "labels": torch.full_like(batch["labels"], -100)} for batch in batches]
    both = [*unlabelled, *batches]
    small = shrink(model, both, encoder_size_ratio=2, effort=QUICK)
    assert count_encoder_parameters(model) >= 2 * count_encoder_parameters(small)
    with scoring(model, model):
        moments = measure_moments(model, model, batches)
        some, all_ = (Probe.of(model, model, given, moments) for given in (both, batches))
        assert some.samples == len(LENGTHS)
        narrow = [LayerPlan(heads_removed=(1,))] * 3
        assert some.measure(narrow).divergence == pytest.approx(all_.measure(narrow).divergence)
        assert some.loss() == pytest.approx(all_.loss())
    with pytest.raises(ValueError, match="search set of at least one sample with a label, got none"):
        shrink(model, unlabelled, encoder_size_ratio=2, effort=QUICK)


@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
@pytest.mark.parametrize("part", ["output.dense.bias", "intermediate.dense.weight"])
def test_what_could_not_be_cut_or_repaired_is_refused_before_anything_is_measured(model, batches, part, monkeypatch):
    path, _, own = part.rpartition(".")
    first, _, last = (layer.get_submodule(path) for layer in model.bert.encoder.layer)
    setattr(last, own, getattr(first, own))
    monkeypatch.setattr(sys.modules[shrink_.__module__], "measure_moments", None)
    with pytest.raises(ValueError, match=rf"its own at 'bert.encoder.layer.2.{part}'.*Untie"):
        list(shrink_(model, model, batches, Budget({"encoder_size_ratio": 2}, QUICK)))
    if own == "weight":  # of the bias a repair alone is refused
        with pytest.raises(ValueError, match="Untie"):
            shrink(model, [], encoder_size_ratio=2)
