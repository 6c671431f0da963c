"""Running only what a candidate can change: the same decisions, to the bit, for less work."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel

from axformer_lightning import apply_plan_
from axformer_lightning.anatomy import (
    Candidate,
    HardAttention,
    LayerPlan,
    SearchSpace,
    anatomy_of,
    neuron_groups,
    with_candidates,
)
from axformer_lightning.criteria import Rule
from axformer_lightning.plan import Plan
from axformer_lightning.replay.calls import Applied
from axformer_lightning.replay.reads import Reads
from axformer_lightning.replay.records import EMBEDDINGS, Records
from axformer_lightning.replay.work import Work
from axformer_lightning.scoring import batches_by_length
from axformer_lightning.search import Pruning, SearchSettings, Shortcuts, find, search_plan

LENGTHS = (12, 3, 7, 5, 9, 4, 12)
NOTHING = Shortcuts(share_blocks=False, first_token=False)


def settings(full_scores=True, factor=2.0, **options):
    """A search that accepts some of everything and rejects some of everything."""
    return SearchSettings(HardAttention(4), Pruning(3, factor), Rule(majority=0), full_scores=full_scores, **options)


@pytest.fixture(params=["eager", pytest.param("sdpa", marks=pytest.mark.exhaustive)])
def implementation(request):
    """One is enough by default: a search runs every layer eagerly, and test_finding.py compares the two."""
    return request.param


@pytest.fixture
def batches(tiny, model):
    batch = tiny.batch(LENGTHS, pad_token_id=model.config.pad_token_id or 0, seed=5)
    return list(batches_by_length([batch], 36, model.config.pad_token_id or 0))


@pytest.fixture
def rounds(monkeypatch):
    """The baseline of every round."""
    made, measure = [], find.measure_baseline

    def note(*args):
        made.append(measure(*args))
        return made[-1]

    monkeypatch.setattr(find, "measure_baseline", note)
    return made


def losses(plan):
    return [(d.kind, d.layer, d.index, d.loss, d.share_not_worse, d.accepted) for d in plan.decisions]


@pytest.mark.always
@pytest.mark.slow_but_first
def test_no_bit_depends_on_what_is_kept(model, batches, rounds):
    assert_no_bit_depends_on_what_is_kept(model, batches, rounds, share=True, first_token=True)


@pytest.mark.one_family
@pytest.mark.parametrize(("share", "first_token"), [(False, False), (False, True), (True, False)])
def test_no_bit_depends_on_what_is_kept_with_fewer_shortcuts(model, batches, rounds, share, first_token):
    assert_no_bit_depends_on_what_is_kept(model, batches, rounds, share, first_token)


def assert_no_bit_depends_on_what_is_kept(model, batches, rounds, share, first_token):
    def search(cache_memory, share=share):
        options = {"cache_memory": cache_memory, "shortcuts": Shortcuts(share, first_token)}
        return losses(search_plan(model, model, batches, settings(**options))[0])

    expected = search(0, share=False)
    assert {decision[-1] for decision in expected} == {True, False}
    assert search(2**30) == expected
    peak = rounds[-1].replay.records.peak
    for budget in (peak // 3, peak // 8):
        assert search(budget) == expected
        assert rounds[-1].replay.records.peak <= 1.5 * budget + 10_000


def test_embeddings_are_computed_once_where_they_are_kept(model, batches):
    def calls(cache_memory):
        heard = []
        (embeddings,) = (module for name, module in model.base_model.named_modules() if name == "embeddings")
        # Hooks of the module itself are called either way; what is below is not.
        below = next(module for module in embeddings.modules() if isinstance(module, nn.Embedding | nn.Conv2d))
        handle = below.register_forward_hook(lambda *_: heard.append(None))
        options = {"shortcuts": Shortcuts(first_token=False), "cache_memory": cache_memory, "factor": 1e-9}
        search_plan(model, model, batches, settings(**options))
        handle.remove()
        return len(heard)

    probed = 2 * len(batches)  # what is read is asked of every batch, besides running it
    assert calls(2**30) <= probed + 2 * len(batches)
    assert calls(0) >= probed + 9 * len(batches)  # for three times hard attention, and six blocks


@pytest.mark.slow_but_first
def test_the_first_token_is_enough_where_nothing_else_is_read(model, batches, rounds, family):
    whole, _ = search_plan(model, model, batches, settings(cache_memory=0, shortcuts=NOTHING))
    quick, _ = search_plan(model, model, batches, settings())
    assert rounds[-1].replay.reading.reads == (Reads.LAST_LAYER if family == "albert" else Reads.FIRST_TOKEN)
    for one, other in zip(whole.decisions, quick.decisions, strict=True):
        assert (one.kind, one.layer, one.index, one.accepted) == (other.kind, other.layer, other.index, other.accepted)
        assert one.loss == pytest.approx(other.loss, abs=1e-4)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("kind", ["attention", "feed_forward"])
def test_what_does_nothing_ties_and_is_rejected(model, batches, part, kind):
    writer = part(model, 1, kind)
    units = slice(8, 16) if kind == "attention" else slice(0, 10)  # a head; the first of five groups, and no other
    writer.weight.data[:, units] = 0
    hardly = SearchSettings(pruning=Pruning(5, 1e9), rule=Rule(majority=0.999), full_scores=True)
    plan, _ = search_plan(model, model, batches, hardly)
    name = ("head", 1, 1) if kind == "attention" else ("neuron_group", 1, 0)
    (decision,) = [d for d in plan.decisions if (d.kind, d.layer, d.index) == name]
    assert decision.loss == decision.best_before
    assert decision.share_not_worse == 1
    assert not decision.accepted


def test_scores_are_those_of_the_cut_model(model, batches):
    """A closed model, run in part and by subtraction, is the model that is cut."""
    plan, _ = search_plan(model, model, batches, settings())
    best = [d.loss for d in plan.decisions if d.accepted][-1]
    apply_plan_(model, plan)
    with torch.no_grad():
        loss_N = torch.cat([_losses(model, batch) for batch in batches])
    assert loss_N.mean().item() == pytest.approx(best, abs=1e-4)


@pytest.mark.slow_but_first
def test_parts_of_a_cut_block_score_as_in_the_model_that_is_cut_further(model, batches):
    sizes, space = (model.config.model_type, 3, 4, 48), SearchSpace(4, neuron_groups(48, 3))
    cut = (LayerPlan(heads_removed=(0, 2)), LayerPlan("kept", (1,), "kept", ((8, 40),)), LayerPlan("removed"))
    apply_plan_(model, Plan(*sizes, cut))
    hardly = SearchSettings(pruning=Pruning(3, 1e9), rule=Rule(majority=0.999), full_scores=True)
    plan, _ = search_plan(model, model, batches, hardly)
    parts = [decision for decision in plan.decisions if decision.index is not None]
    groups, heads = ([(d.layer, d.index) for d in parts if d.kind == kind] for kind in ("neuron_group", "head"))
    assert groups == [(2, 0), (2, 1), (2, 2), (1, 0), (1, 2), (0, 0), (0, 1), (0, 2)]
    assert heads == [(1, 0), (1, 2), (1, 3), (0, 1), (0, 3)]
    assert not any(decision.accepted for decision in plan.decisions)
    for decision in parts:
        closed = with_candidates(cut, [Candidate(decision.kind, decision.layer, decision.index)], space)
        smaller = apply_plan_(copy.deepcopy(model), Plan(*sizes, closed))
        with torch.no_grad():
            loss_N = torch.cat([_losses(smaller, batch) for batch in batches])
        assert decision.loss == pytest.approx(loss_N.mean().item(), abs=1e-4)


def _losses(model, batch):
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return functional.cross_entropy(logits, batch["labels"], reduction="none")


EVERYTHING_AT_ONCE = ("stopped", True)  # all shortcuts, on a model that is cut
WORK = {
    "whole": {"cache_memory": 0, "shortcuts": NOTHING},
    "replay": {"shortcuts": NOTHING},
    "first token": {"cache_memory": 0},
    "all": {},
    "stopped": {"full_scores": False},
}
WORK_OF = [("bert", "whole", True), ("bert", "replay", False), ("bert", "first token", False)]
WORK_OF += [
    (family, *EVERYTHING_AT_ONCE) for family in ("bert", "distilbert", "mpnet", "deberta-v2", "modernbert", "albert")
]
WORK_OF += [
    pytest.param(family, options, cut, marks=pytest.mark.exhaustive)
    for family in ("bert", "distilbert", "mpnet", "deberta-v2", "modernbert", "albert")
    for options in WORK
    for cut in (False, True)
    if (family, options, cut) not in WORK_OF
]


@pytest.mark.slow_but_first
@pytest.mark.parametrize(("family", "options", "cut"), WORK_OF, indirect=["family"])
def test_the_work_that_is_counted_is_the_work_that_is_done(model, batches, monkeypatch, options, cut):
    """Of all layers, by the count of torch itself."""
    if cut:
        layers = (LayerPlan("kept", (0, 3)), LayerPlan("kept", (1,), "kept", ((12, 36),)), LayerPlan("removed"))
        apply_plan_(model, Plan(model.config.model_type, 3, 4, 48, layers))
    counted, add = [], Work.add

    def note(self, macs, per_token):
        counted.append(macs)
        add(self, macs, per_token)

    monkeypatch.setattr(Work, "add", note)
    with FlopCounterMode(display=False) as counter:
        search_plan(model, model, batches, settings(**WORK[options]))
    names = [f"{type(model).__name__}.{name}" for name in anatomy_of(model).layers]
    done = sum(sum(counter.get_flop_counts()[name].values()) for name in names if name in counter.get_flop_counts())
    assert done > 0
    assert 2 * sum(counted) == done


@pytest.mark.slow_but_first
@pytest.mark.parametrize("family", ["bert", "albert"], indirect=True)
def test_every_shortcut_saves_work(model, batches, family):
    batches = batches_by_length(batches, 24)  # of which the last are not always needed

    def work(**options):
        return search_plan(model, model, batches, settings(factor=9.0, **options))[1].layer_tokens

    none = work(cache_memory=0, shortcuts=NOTHING)
    replayed, shared = work(shortcuts=NOTHING), work(shortcuts=Shortcuts(first_token=False))
    everything, stopped = work(), work(full_scores=False)
    assert none > replayed > shared > stopped
    assert everything == shared if family == "albert" else everything < shared
    assert everything > stopped


@pytest.mark.slow_but_first
@pytest.mark.parametrize("family", ["albert"])
@pytest.mark.parametrize(("layers", "groups", "inner"), [(6, 3, 1), (4, 1, 1), (2, 1, 2)])
def test_layers_that_are_applied_several_times_are_all_run(tiny, batches, rounds, layers, groups, inner):
    sizes = {"num_hidden_layers": layers, "num_hidden_groups": groups, "inner_group_num": inner}
    model = tiny.model("albert", **sizes)
    plan, _ = search_plan(model, model, batches, settings())
    assert rounds[-1].replay.reading.reads == Reads.EVERYTHING
    assert losses(plan) == losses(search_plan(model, model, batches, settings(cache_memory=0, shortcuts=NOTHING))[0])


@pytest.mark.parametrize("family", ["bert"])
def test_rounding_that_differs_from_call_to_call_hides_nothing(tiny, batches, rounds):
    torch.manual_seed(0)
    encoder = tiny.model("bert", auto=AutoModel)
    search_plan(Stranger(encoder, "first, with noise").eval(), encoder, batches, settings())
    assert rounds[-1].replay.reading.reads == Reads.FIRST_TOKEN


class Stranger(nn.Module):
    """Somebody else's head on an encoder, and what it reads."""

    def __init__(self, encoder, reads):
        super().__init__()
        self.encoder, self.reads = encoder, reads
        self.head = nn.Linear(32, 3)

    def forward(self, input_ids, attention_mask):
        asked = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.reads == "first":
            hidden = self.encoder(**asked).last_hidden_state[:, 0]
        elif self.reads == "first, with noise":
            hidden = self.encoder(**asked).last_hidden_state[:, 0]
            hidden = hidden * (1 + 1e-6 * torch.rand_like(hidden))
        elif self.reads == "signs":
            hidden = (self.encoder(**asked).last_hidden_state > 0).float().mean(1)
        elif self.reads == "mean":
            hidden = self.encoder(**asked).last_hidden_state.mean(1)
        elif self.reads == "two layers":
            hidden = sum(self.encoder(**asked, output_hidden_states=True).hidden_states[-2:])[:, 0]
        elif self.reads == "weights":
            output = self.encoder(**asked, output_attentions=True)
            hidden = (output.attentions[0].mean(1) @ output.last_hidden_state)[:, 0]
        elif self.reads == "the encoder twice":
            hidden = self.encoder(**asked).last_hidden_state[:, 0]
            hidden = hidden * self.encoder(input_ids=input_ids.flip(1)).last_hidden_state[:, 0]
        elif self.reads == "its own result":
            hidden = self.encoder(**asked).last_hidden_state
            hidden = self.encoder(inputs_embeds=hidden).last_hidden_state[:, 0]
        elif self.reads == "a layer":
            hidden = self.encoder(**asked).last_hidden_state
            hidden = self.encoder.encoder.layer[1](hidden)[:, 0]
        return self.head(hidden)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("family", ["bert"])
@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        ("first", Reads.FIRST_TOKEN),
        ("mean", Reads.LAST_LAYER),
        ("signs", Reads.LAST_LAYER),  # of which NaN has one as well
        ("two layers", Reads.EVERYTHING),
        ("weights", Reads.EVERYTHING),
        ("the encoder twice", Reads.FIRST_TOKEN),
        ("its own result", Reads.EVERYTHING),
        ("a layer", Reads.EVERYTHING),
    ],
)
def test_a_strangers_head_gets_what_it_reads(tiny, batches, rounds, reads, expected):
    torch.manual_seed(0)
    encoder = tiny.model("bert", auto=AutoModel)
    module = Stranger(encoder, reads).eval()
    plan, counts = search_plan(module, encoder, batches, settings())
    assert rounds[-1].replay.reading.reads == expected
    whole, more = search_plan(module, encoder, batches, settings(cache_memory=0, shortcuts=NOTHING))
    assert [d[:3] + d[-1:] for d in losses(plan)] == [d[:3] + d[-1:] for d in losses(whole)]
    for one, other in zip(plan.decisions, whole.decisions, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-4)
    assert (counts.layer_tokens < more.layer_tokens) == (expected > Reads.EVERYTHING)


def test_a_block_is_known_only_with_all_that_ran_before_it():
    before, space = (LayerPlan(),) * 3, SearchSpace(4, neuron_groups(48, 3))
    accepted = (Candidate("attention", 0), Candidate("head", 1, 0), Candidate("neuron_group", 1, 0))
    known = {
        tried.kind: Applied.of((*accepted, Candidate("head", 2, 0), tried), before, space, shares=True)
        for tried in (Candidate("head", 1, 1), Candidate("neuron_group", 1, 1))
    }
    assert known["head"].block_key("attention") == accepted[:2]
    assert known["neuron_group"].block_key("attention") == accepted[:2]
    assert known["neuron_group"].block_key("feed_forward") == accepted


def test_records_keep_to_their_budget():
    records, output = Records(10 * 400, 9), torch.zeros(100)
    for layer in range(9):
        for batch in range(3):
            records.keep_layer(batch, layer, (), 0, output)
            assert records.used <= 4000
    kept = [layer for layer in range(9) if records.layer(0, layer, (), 1)]
    assert kept == [3, 7]
    assert records.stride == 4


def test_embeddings_are_the_first_to_go():
    records, output = Records(3 * 400, 4), torch.zeros(100)
    for layer in (EMBEDDINGS, 0, 1):
        records.keep_layer(0, layer, (), 0, output)
    assert [records.layer(0, layer, (), 1) is not None for layer in (EMBEDDINGS, 0, 1)] == [True, True, True]
    records.keep_layer(0, 2, (), 0, output)
    assert [records.layer(0, layer, (), 1) is not None for layer in (EMBEDDINGS, 0, 1, 2)] == [False, True, True, True]
    records.keep_layer(0, EMBEDDINGS, (), 0, output)  # nor do they come back
    assert (records.used, records.stride) == (1200, 1)


def test_blocks_get_what_the_layers_leave_over():
    records, output = Records(3 * 400, 3), torch.zeros(100)
    records.keep_layer(0, 0, (), 0, output)
    for batch in range(3):
        records.keep_block(batch, 1, "attention", (), 0, (output, output))
    assert [records.block(batch, 1, "attention", (), 1) is not None for batch in range(3)] == [True, False, False]
    records.keep_block(2, 2, "attention", (), 0, (output, output))
    assert records.block(0, 1, "attention", (), 1) is None
    assert records.block(2, 2, "attention", (), 1) is not None
    assert records.used == 1200


def test_what_was_kept_under_another_key_or_in_part_is_not_there():
    records, output = Records(10**6, 3), torch.zeros(100)
    records.keep_layer(0, 0, ("a",), 0, output)
    assert records.layer(0, 0, ("a",), 1) == [output]
    assert records.layer(0, 0, ("b",), 1) is None
    assert records.layer(0, 0, ("a",), 2) is None
    records.keep_layer(0, 0, ("b",), 0, output)
    records.keep_layer(0, 0, ("b",), 1, output)
    assert records.layer(0, 0, ("a",), 1) is None
    assert len(records.layer(0, 0, ("b",), 2)) == 2
    records.keep_layer(0, 0, ("c",), 1, output)  # its first call is missing
    assert records.layer(0, 0, ("c",), 1) is None
    assert records.used == 0
    records.keep_layer(0, 0, ("d",), 0, output)
    records.keep_layer(0, 0, ("e",), 1, output)  # its first call was another's
    assert records.layer(0, 0, ("d",), 2) is None
    assert records.layer(0, 0, ("e",), 2) is None


def test_a_part_of_a_larger_tensor_is_kept_without_the_rest():
    records, whole = Records(10**6, 3), torch.zeros(100, 100)
    records.keep_block(0, 0, "attention", (), 0, (whole[:, :1], whole[:, :1]))
    (kept,) = records.block(0, 0, "attention", (), 1)
    assert [tensor.untyped_storage().nbytes() for tensor in kept] == [400, 400]
