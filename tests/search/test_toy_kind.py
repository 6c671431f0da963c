"""A row makes a new kind of component: it is searched, cut, saved, loaded and drawn."""

import pytest
import torch

from axformer_lightning import apply_plan_, load_pretrained, save_pretrained
from axformer_lightning.anatomy import KINDS, Candidate, HardAttention, Kind, SearchSpace, anatomy_of, neuron_groups
from axformer_lightning.criteria import Rule
from axformer_lightning.plan import Plan
from axformer_lightning.report import draw_plan, plan_summary
from axformer_lightning.search import Pruning, SearchSettings, search_plan

GROUPS = neuron_groups(48, 5)
PAIR = Kind(  # heads 0 and 1, 2 and 3, ... of a layer, tried together after the whole blocks
    block="attention",
    offers=lambda layer, space: [
        pair
        for pair in range(space.num_heads // 2)
        if {2 * pair, 2 * pair + 1} <= set(layer.kept_heads(space.num_heads))
    ],
    apply=lambda layer, pair, space: layer.without_head(2 * pair).without_head(2 * pair + 1),
    units=lambda pair, space: (2 * pair, 2 * pair + 1),
    phase="pruning",
    index_below="num_heads",
)


@pytest.fixture(autouse=True)
def row(monkeypatch):
    monkeypatch.setitem(KINDS, "head_pair", PAIR)


@pytest.fixture
def batches(tiny):
    return [tiny.batch((9,) * 4, seed=seed) for seed in (5, 6)]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("strategy", ["reference", "best_first"])
def test_a_row_is_a_new_kind(tiny, logits, batches, tmp_path, strategy):
    model = tiny.model("bert", "eager")
    # Blocks are never inspected and pairs are always accepted, but for a block that helps by itself.
    settings = SearchSettings(HardAttention(4), Pruning(5, 0.001, strategy), Rule(majority=0, tolerance=9.0))
    plan, _ = search_plan(model, model, batches, settings)
    tried = [decision for decision in plan.decisions if decision.kind == "head_pair"]
    assert {decision.index for decision in tried} <= {0, 1}
    assert Plan.from_json(plan.to_json()) == plan

    dense, space = anatomy_of(model).dense_layers(), SearchSpace(4, GROUPS)
    pairs = Plan("bert", 3, 4, 48, tuple(PAIR.apply(layer, 1, space) for layer in dense))
    assert all(layer.heads_removed == (2, 3) for layer in pairs.layers)
    apply_plan_(model, pairs)
    save_pretrained(model, tmp_path / "artifact")
    loaded = load_pretrained(tmp_path / "artifact", attn_implementation="eager")
    with torch.inference_mode():
        assert torch.equal(logits(loaded, tiny.batch()), logits(model, tiny.batch()))
    draw_plan(pairs, tmp_path / "plan.png")
    assert (tmp_path / "plan.png").stat().st_size > 0
    assert "6 of 12 heads" in plan_summary(pairs)


def test_a_pair_scores_as_its_two_heads(tiny, batches):
    """Closed together by one candidate, or one after the other."""
    model = tiny.model("bert", "eager")
    before = Plan.dense(anatomy_of(model))
    settings = SearchSettings(None, Pruning(5, 1e-9), Rule(majority=0), full_scores=True)
    plan, _ = search_plan(model, model, batches, settings)
    first = next(decision for decision in plan.decisions if decision.kind == "head_pair")
    accepted = [d for d in plan.decisions[: plan.decisions.index(first)] if d.accepted]
    done = tuple(Candidate(d.kind, d.layer, d.index) for d in accepted)
    heads = [Candidate("head", first.layer, 2 * first.index + offset) for offset in (0, 1)]
    layers = before.layers
    for candidate in (*done, *heads):
        changed = KINDS[candidate.kind].apply(layers[candidate.layer], candidate.index, SearchSpace(4, GROUPS))
        layers = (*layers[: candidate.layer], changed, *layers[candidate.layer + 1 :])
    apply_plan_(model, Plan("bert", 3, 4, 48, layers))
    with torch.inference_mode():
        losses = torch.cat(
            [
                torch.nn.functional.cross_entropy(
                    model(b["input_ids"], b["attention_mask"]).logits, b["labels"], reduction="none"
                )
                for b in batches
            ]
        )
    assert first.loss == pytest.approx(losses.mean().item(), abs=1e-5)
