"""The search on modules and batches of other people."""

from collections import namedtuple
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, AutoModelForImageClassification, BertModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from axformer_lightning import find_plan, shrink
from axformer_lightning.anatomy import HardAttention
from axformer_lightning.budgets import Effort
from axformer_lightning.costs import count_encoder_parameters
from axformer_lightning.criteria import Rule
from axformer_lightning.search import Int8, Pruning, SearchSettings, Shortcuts, search_plan
from axformer_lightning.search import search as search_module

LENGTHS = (12, 3, 7, 12, 5, 9, 4, 11)
SETTINGS = {"hard_attention_k": 2, "neuron_groups": 4, "majority": 0, "inspection_factor": 2, "batch_tokens": 96}
THOROUGH = {"cache_memory": 0, "shortcuts": Shortcuts(False, False)}  # every layer is run, whatever is asked of it
HARD_ONLY = SearchSettings(hard_attention=HardAttention(2), full_scores=True, **THOROUGH)
Triple = namedtuple("Triple", "words, mask, label")


@dataclass
class Batch:
    words: Tensor
    mask: Tensor
    target: Tensor


class Around(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, words, mask):
        return self.model(words, mask).logits


class Towers(nn.Module):
    """Cosine of two texts, by one encoder."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def embed(self, ids):
        return self.encoder(input_ids=ids).last_hidden_state.mean(1)

    def forward(self, input_ids_a, input_ids_b):
        return functional.cosine_similarity(self.embed(input_ids_a), self.embed(input_ids_b))


@pytest.fixture
def family():
    return "bert"


@pytest.fixture
def search_set(tiny):
    return tiny.batch(LENGTHS, seed=5)


@pytest.fixture
def towers(tiny):
    return Towers(tiny.model("bert", auto=AutoModel))


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(5, 50, (2, 6, 11), generator=generator)
    labels = torch.rand(2, 6, generator=generator)
    return [{"input_ids_a": words[i, :, :4], "input_ids_b": words[i, :, 4:], "labels": labels[i]} for i in range(2)]


def tried(plan):
    return [(decision.kind, decision.layer, decision.index, decision.accepted) for decision in plan.decisions]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("make", [Triple, Batch, lambda *parts: parts, lambda *parts: list(parts)])
def test_every_kind_of_batch_leads_to_the_same_plan(tiny, search_set, make):
    model = tiny.model("bert")
    batch = make(search_set["input_ids"], search_set["attention_mask"], search_set["labels"])
    plan = find_plan(Around(model), [batch], **SETTINGS)
    assert tried(plan) == tried(find_plan(model, [search_set], **SETTINGS))
    assert any(decision.accepted for decision in plan.decisions)


def test_two_towers_are_searched(towers, pairs, state):
    before = state(towers.encoder)
    plan = find_plan(towers, pairs, **SETTINGS)
    assert plan.decisions[0].samples_seen == 12
    assert {decision.accepted for decision in plan.decisions} == {True, False}
    assert state(towers.encoder) == before


@pytest.mark.parametrize("family", ["vit"])
def test_images_are_searched(tiny, batch):
    model = tiny.model("vit", auto=AutoModelForImageClassification)
    assert any(decision.accepted for decision in find_plan(model, [batch], **SETTINGS).decisions)
    _, counts = search_plan(model, model, [batch], HARD_ONLY)
    tokens = model(batch["pixel_values"], output_hidden_states=True).hidden_states[0].shape[1]
    assert counts.layer_tokens == pytest.approx(4 * 3 * 6 * tokens)
    assert counts.exhaustive_layer_tokens == 3 * 3 * 6 * tokens


@pytest.mark.slow
def test_a_question_counts_once_however_many_windows_it_has(tiny, search_set):
    model = tiny.model("bert")
    copies = torch.tensor([1, 3, 2, 1, 2, 1, 4, 1])
    windows = {name: value.repeat_interleave(copies, 0) for name, value in search_set.items()}
    windows["sample_ids"] = torch.arange(8).repeat_interleave(copies) * 7 + 3
    settings = SETTINGS | {"majority": 0.5, "full_scores": True}
    plan, expected = find_plan(model, [windows], **settings), find_plan(model, [search_set], **settings)
    assert tried(plan) == tried(expected)
    for found, wanted in zip(plan.decisions, expected.decisions, strict=True):
        assert found.samples_seen == 8
        assert found.loss == pytest.approx(wanted.loss, abs=1e-5)
    by_row = find_plan(model, [{k: v for k, v in windows.items() if k != "sample_ids"}], **settings)
    assert by_row.decisions[0].samples_seen == 15


@pytest.mark.parametrize("make", [Triple, Batch, lambda *parts: parts])
def test_work_is_counted_whatever_the_batches_are(tiny, search_set, make):
    model = tiny.model("bert")
    batch = make(search_set["input_ids"], search_set["attention_mask"], search_set["labels"])
    _, counts = search_plan(Around(model), model, [batch], HARD_ONLY)
    assert counts.layer_tokens == pytest.approx(4 * 3 * 8 * 12)
    assert counts.exhaustive_layer_tokens == 3 * 3 * 8 * 12


def test_the_work_of_two_towers_is_that_of_both(towers, pairs):
    _, counts = search_plan(towers, towers.encoder, pairs, HARD_ONLY)
    assert counts.layer_tokens == pytest.approx(4 * 3 * 12 * (7 + 4))
    assert counts.exhaustive_layer_tokens == 3 * 3 * (2 * 12) * 7


@pytest.mark.parametrize(("layers", "groups"), [(6, 3), (4, 1)])
def test_a_layer_counts_each_time_it_is_applied(tiny, search_set, layers, groups):
    model = tiny.model("albert", num_hidden_layers=layers, num_hidden_groups=groups)
    plan, counts = search_plan(model, model, [search_set], HARD_ONLY)
    assert len(plan.decisions) == groups
    assert counts.layer_tokens == pytest.approx((1 + groups) * layers * 8 * 12)
    assert counts.exhaustive_layer_tokens == groups * layers * 8 * 12


class EarlyExit(nn.Module):
    """Runs long texts through all layers, short ones through the first alone, and those of two tokens through none."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        return self.model.classifier(first_layers(self.model.bert, input_ids)[1])


def first_layers(encoder, input_ids):
    hidden = encoder.embeddings(input_ids)
    if input_ids.shape[1] != 2:
        for layer in encoder.encoder.layer[: 1 if input_ids.shape[1] < 9 else None]:
            hidden = layer(hidden)
    return BaseModelOutputWithPooling(hidden, encoder.pooler(hidden))


class ExitingBert(BertModel):
    """The same as a model's own forward."""

    def forward(self, input_ids, **_):
        return first_layers(self, input_ids)


class AroundExiting(EarlyExit):
    def forward(self, input_ids):
        return self.model.classifier(self.model.bert(input_ids)[1])


@pytest.mark.slow_but_first
@pytest.mark.parametrize("around", [AroundExiting, EarlyExit])
@pytest.mark.parametrize(
    ("search", "lengths"),
    [
        ("plan", (12, 5, 2, 11, 10)),
        ("plan", (2, 5, 12)),
        ("repair", (5, 12, 11)),
        ("int8", (5, 12)),
        ("shrink", (5, 12, 11)),
    ],
)
def test_layers_that_only_some_batches_go_through_are_searched(tiny, around, search, lengths):
    model = tiny.model("bert")
    model.bert.__class__ = ExitingBert
    module = around(model)
    batches = [
        {name: tiny.batch((length,) * 8, seed=length)[name] for name in ("input_ids", "labels")} for length in lengths
    ]
    if search == "shrink":
        small = shrink(module, batches, encoder_size_ratio=1.5, effort=Effort(table_samples=16, tries=2))
        assert count_encoder_parameters(model) >= 1.5 * count_encoder_parameters(small.model)
        return
    settings = {
        "plan": SearchSettings(HardAttention(2), Pruning(4, strategy="best_first"), Rule(majority=0)),
        "repair": SearchSettings(pruning=Pruning(repair=True), rule=Rule(majority=0, tolerance=0.05)),
        "int8": SearchSettings(int8=Int8(static=True), rule=Rule(majority=0, tolerance=0.5)),
    }[search]
    decided = search_module(module, model, batches, settings).plan
    thorough = search_module(module, model, batches, replace(settings, **THOROUGH)).plan
    assert tried(decided) == tried(thorough)
    assert {decision.layer for decision in decided.decisions} >= {0, 1, 2}


def test_a_pass_that_stops_early_counts_what_it_ran(tiny):
    model = tiny.model("bert")
    batches = [tiny.batch((6,) * 4, seed=seed) for seed in range(5)]
    settings = SearchSettings(pruning=Pruning(4), rule=Rule(majority=0.9), **THOROUGH)
    trials = []
    _, counts = search_plan(model, model, batches, settings, on_trial=trials.append)
    seen = sum(trial.score.samples_seen for trial in trials)
    assert seen < 20 * len(trials)
    assert 2 / 3 * 3 * seen * 6 < counts.layer_tokens - 3 * 20 * 6 < 3 * seen * 6


class Scorer(nn.Module):
    def __init__(self, model, shift=0.0):
        super().__init__()
        self.model, self.shift = model, shift

    def axformer_step(self, batch):
        logits = self.model(input_ids=batch["input_ids"]).logits
        return functional.cross_entropy(logits, batch["labels"], reduction="none") - self.shift, logits, batch["labels"]


@pytest.mark.slow
def test_a_module_that_promises_losses_above_zero_is_searched_faster_with_the_same_decisions(tiny):
    batches = [tiny.batch((6,) * 4, seed=seed) for seed in range(5)]
    module = Scorer(tiny.model("bert"))
    slow = find_plan(module, batches, **SETTINGS)
    module.axformer_losses_nonnegative = True
    fast = find_plan(module, batches, **SETTINGS)
    assert tried(fast) == tried(slow)
    assert all(decision.loss is not None for decision in slow.decisions)
    assert any(decision.loss is None for decision in fast.decisions)
    module.shift = 100.0
    with pytest.raises(ValueError, match="axformer_losses_nonnegative"):
        find_plan(module, batches, **SETTINGS)
