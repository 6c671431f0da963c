"""Moments of a model are those of the real tokens that its out-projections read, whatever calls the model."""

import pytest
import torch
from torch import distributed, nn

from axformer_lightning import apply_plan_
from axformer_lightning.anatomy import LayerPlan
from axformer_lightning.first_token import set_first_token_
from axformer_lightning.repair import BlockMoments, measure_moments
from axformer_lightning.replay import Ranks

BLOCKS = ("attention", "feed_forward")
SMALL = {"num_hidden_layers": 2}


class Towers(nn.Module):
    """A stranger's module, which calls its encoder twice a step and hands it the mask by position."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def axformer_step(self, batch):
        first, second = (self.encoder.base_model(*tower)[0][:, 0] for tower in batch)
        return (first - second).square().mean(1), first, second


def rows(batch, start, stop):
    return {name: value[start:stop] for name, value in batch.items()}


def assert_same(moments, expected):
    assert set(moments.blocks) == set(expected.blocks)
    for name in expected.blocks:
        torch.testing.assert_close(moments.of(*name).sums_MM, expected.of(*name).sums_MM, rtol=1e-5, atol=1e-3)


@pytest.fixture
def bert(tiny):
    return tiny.model("bert", **SMALL)


@pytest.fixture
def family():
    return "bert"


@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet", "deberta-v2", "modernbert", "albert", "vit"])
def test_moments_are_of_what_the_last_linear_layers_read_of_real_tokens(tiny, family, batch, part, measured, logits):
    model = tiny.model(family)
    read, hooks = {}, []
    for i in range(3):
        for role in BLOCKS:
            linear = part(model, i, role)
            hooks.append(linear.register_forward_pre_hook(lambda m, args, at=(i, role): read.update({at: args[0]})))
    logits(model, batch)
    for hook in hooks:
        hook.remove()
    real = batch["attention_mask"].bool() if "attention_mask" in batch else slice(None)
    moments = measured(model)
    assert set(moments.blocks) == set(read)
    assert moments.applications == (1, 1, 1)
    for name, x_BTC in read.items():
        expected = BlockMoments.of(x_BTC[real].flatten(0, -2).double())
        torch.testing.assert_close(moments.of(*name).sums_MM, expected.sums_MM)
        assert torch.equal(moments.of(*name).sums_MM, moments.of(*name).sums_MM.T)


def test_padding_and_the_cut_into_batches_do_not_change_moments(bert, batch, measured):
    longer = {name: nn.functional.pad(batch[name], (0, 5)) for name in ("input_ids", "attention_mask")}
    singles = [rows({**batch, **longer}, n, n + 1) for n in range(12)]
    assert_same(measure_moments(bert, bert, singles), measured(bert))


def test_two_processes_have_the_same_bits_and_those_of_one_but_for_rounding(bert, batch, measured, monkeypatch):
    parts = [[rows(batch, 0, 5), rows(batch, 5, 8)], [rows(batch, 8, 12)]]
    sent = ([], [])

    def run(rank, gather):
        monkeypatch.setattr(distributed, "all_gather", gather)
        return measure_moments(bert, bert, parts[rank], ranks=Ranks(rank, 2))

    def first_time(rank):
        def gather(everyones, mine):
            sent[rank].append(mine.clone())
            for told in everyones:
                told.copy_(mine)

        return gather

    def for_real(both):
        def gather(everyones, mine):
            for told, value in zip(everyones, next(both), strict=True):
                told.copy_(value)

        return gather

    for rank in (0, 1):
        run(rank, first_time(rank))
    found = [run(rank, for_real(zip(*sent, strict=True))) for rank in (0, 1)]
    for name in found[0].blocks:
        assert torch.equal(found[0].of(*name).sums_MM, found[1].of(*name).sums_MM)
    assert_same(found[0], measured(bert))


def test_blocks_in_groups_are_as_all_at_once(bert, measured):
    together, alone = measured(bert), measured(bert, blocks=[(1, "feed_forward")])
    assert set(alone.blocks) == {(1, "feed_forward")}
    assert torch.equal(alone.of(1, "feed_forward").sums_MM, together.of(1, "feed_forward").sums_MM)


def test_without_a_mask_every_token_counts(bert, batch):
    moments = measure_moments(bert, bert, [{name: batch[name] for name in ("input_ids", "labels")}])
    assert moments.of(0, "attention").tokens == batch["input_ids"].numel()


def test_every_call_of_a_strangers_step_counts(bert, batch):
    towers = (batch["input_ids"], batch["attention_mask"])
    moments = measure_moments(Towers(bert), bert, [(towers, towers)])
    assert moments.of(1, "attention").tokens == 2 * batch["attention_mask"].sum()
    assert moments.applications == (1, 1)


def test_every_application_of_a_shared_layer_counts(tiny, batch):
    model = tiny.model("albert", num_hidden_layers=4, num_hidden_groups=1)
    moments = measure_moments(model, model, [batch])
    assert moments.applications == (4,)
    assert moments.of(0, "feed_forward").tokens == 4 * batch["attention_mask"].sum()


def test_a_cut_model_is_measured_by_what_is_left(bert, measured, plan_of):
    layers = (LayerPlan(heads_removed=(0, 1, 2, 3), neurons_removed=((8, 48),)), LayerPlan("removed"))
    moments = measured(apply_plan_(bert, plan_of(bert, layers)))
    columns = {name: block.columns for name, block in moments.blocks.items()}
    assert columns == {(0, "attention"): 0, (0, "feed_forward"): 8, (1, "feed_forward"): 48}


def test_where_only_the_first_token_is_computed_only_that_counts(tiny):
    model = tiny.model("distilbert", n_layers=2)  # of which what is not computed keeps its place
    set_first_token_(model)
    moments = measure_moments(model, model, [tiny.batch((2, 3) * 30)])
    assert [moments.of(i, kind).tokens for i in (0, 1) for kind in BLOCKS] == [150, 150, 60, 60]


def test_sums_of_a_half_precision_model_are_float64(bert, batch, measured):
    seen = []
    linear = bert.to(torch.bfloat16).bert.encoder.layer[0].output.dense
    linear.register_forward_pre_hook(lambda module, args: seen.append(*args))
    sums_MM = measured(bert).of(0, "feed_forward").sums_MM
    expected = BlockMoments.of(seen[0][batch["attention_mask"].bool()].double())
    assert (seen[0].dtype, sums_MM.dtype) == (torch.bfloat16, torch.float64)
    torch.testing.assert_close(sums_MM, expected.sums_MM)


def test_measuring_leaves_no_trace(bert, batch, measured, state):
    bert(**batch).loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in bert.named_parameters()}
    before, random = state(bert.train()), torch.get_rng_state()
    with torch.inference_mode():
        assert not measured(bert).of(0, "attention").sums_MM.is_inference()
    assert state(bert) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(parameter.grad, gradients[name]) for name, parameter in bert.named_parameters())


def test_what_cannot_be_measured_is_refused_and_named_and_leaves_no_trace(bert, batch, measured, state):
    before = state(bert)
    with pytest.raises(ValueError, match="at least one token that reaches the attention block of layer 0, got none"):
        measure_moments(bert, bert, [])
    with pytest.raises(ValueError, match=r"at least 33 tokens .* inputs of the attention .* got 12.*a search without"):
        measure_moments(bert, bert, [rows(batch, 0, 1)])
    with pytest.raises(ValueError, match=r"blocks that the model has, got \[\(7, 'attention'\)\]"):
        measured(bert, blocks=[(7, "attention")])
    with pytest.raises(ValueError, match=r"`attention_mask` of shape \(batch, tokens\).*got shape \(12, 1, 12, 12\)"):
        measure_moments(bert, bert, [{**batch, "attention_mask": torch.ones(12, 1, 12, 12)}])
    assert state(bert) == before
    with torch.no_grad():
        bert.bert.encoder.layer[1].intermediate.dense.bias[3] = torch.inf
    with pytest.raises(ValueError, match=r"Expected finite inputs .* of the feed_forward block of layer 1, got NaN"):
        measured(bert)
    bert.bert.encoder.layer[0].output.dense = nn.Sequential(bert.bert.encoder.layer[0].output.dense)
    with pytest.raises(
        ValueError, match=r"plain torch.nn.Linear at 'bert.encoder.layer.0.output.dense', got .*Sequenti"
    ):
        measured(bert)
