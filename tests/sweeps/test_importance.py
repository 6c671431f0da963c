"""Importance by torch-pruning: the same scores as of the groups that it finds by itself, and the same units go."""

import copy

import pytest
import torch
import torch_pruning as tp
from torch import nn

from axformer_lightning.anatomy import LayerPlan, anatomy_of
from axformer_lightning.costs import layer_sizes
from axformer_lightning.plan import Plan
from axformer_lightning.scoring import batches_by_length, step_of
from axformer_lightning.surgery import apply_plan_
from axformer_lightning.sweeps import importance
from axformer_lightning.sweeps.importance import magnitude_scores, most_important, taylor_scores, with_gradients

pytestmark = pytest.mark.one_implementation
HEADS, NEURONS = 4, 48
LENGTHS = (9, 3, 12, 5, 7, 12, 4, 8)


@pytest.fixture
def batches(tiny, family):
    return batches_by_length([tiny.batch(LENGTHS, tiny.pads[family])], 48, tiny.pads[family])


@pytest.fixture
def bert(tiny):
    return tiny.model("bert", "eager")


@pytest.fixture
def traced(tiny, bert):
    """What torch-pruning needs to trace a model."""
    batch = {name: value for name, value in tiny.batch((5, 5)).items() if name != "labels"}
    return {"example_inputs": batch, "output_transform": lambda output: output.logits}


@pytest.mark.parametrize("normalizer", ["mean", None])
def test_scores_are_those_of_the_groups_that_torch_pruning_finds(tiny, bert, traced, normalizer):
    graph = tp.DependencyGraph().build_dependency(bert, **traced)
    with with_gradients(bert, [tiny.batch(LENGTHS)]):
        mine = magnitude_scores(bert, normalizer), taylor_scores(bert, normalizer)
        for i, layer in enumerate(bert.bert.encoder.layer):
            roots = {"attention": layer.attention.self.query, "feed_forward": layer.intermediate.dense}
            for kind, linear in roots.items():
                group = graph.get_pruning_group(linear, tp.prune_linear_out_channels, [*range(linear.out_features)])
                for scores, scorer in zip(
                    mine, (tp.importance.MagnitudeImportance, tp.importance.TaylorImportance), strict=True
                ):
                    expected = scorer(normalizer=normalizer)(group)
                    units = HEADS if kind == "attention" else NEURONS
                    torch.testing.assert_close(scores[i, kind].float(), expected.view(units, -1).mean(1))


def test_what_the_pruner_of_torch_pruning_removes_is_least_important_here(bert, traced):
    scores = magnitude_scores(bert)
    inside = [linear for layer in bert.bert.encoder.layer for linear in (
        layer.attention.self.query, layer.attention.self.key, layer.attention.self.value, layer.intermediate.dense,
    )]  # fmt: skip
    pruner = tp.pruner.BasePruner(
        bert, importance=tp.importance.MagnitudeImportance(), global_pruning=True,
        pruning_ratio=0.5, head_pruning_ratio=0.5,
        num_heads={linear: HEADS for linear in inside if linear.out_features == HEADS * 8}, prune_num_heads=True,
        prune_head_dims=False, root_module_types=[nn.Linear],
        ignored_layers=[m for m in bert.modules() if isinstance(m, nn.Linear) and m not in inside], **traced,
    )  # fmt: skip
    gone = [sorted(group[0].idxs) for group in pruner.step(interactive=True)]
    heads = {(i, "attention"): [column // 8 for column in gone[2 * i][::8]] for i in range(3)}
    neurons = {(i, "feed_forward"): gone[2 * i + 1] for i in range(3)}
    for removed in (heads, neurons):
        worst = [float(scores[name][unit]) for name, units in removed.items() for unit in units]
        others = [float(x) for name, units in removed.items() for u, x in enumerate(scores[name]) if u not in units]
        assert max(worst) < min(others)
    assert sum(map(len, heads.values())) == 3 * HEADS // 2
    assert sum(map(len, neurons.values())) == pytest.approx(3 * NEURONS / 2, abs=2)  # it also ranks features of heads


def test_a_score_takes_every_weight_of_a_unit_in(model):
    anatomy, scores = anatomy_of(model), magnitude_scores(model, None)
    assert len(scores) == 6
    for (i, kind), score_U in scores.items():
        block = anatomy.block(kind)
        squares = []
        for name in (*block.in_projections, block.out_projection):
            if name in block.optional and not has(model, anatomy.name(i, name)):
                continue
            weight = model.get_parameter(f"{anatomy.name(i, name)}.weight").double()
            rows = weight.T if name == block.out_projection else weight
            for half in rows.reshape(block.in_projections.get(name, 1), block.num_units, -1):
                squares.append(half.square().sum(1))
        torch.testing.assert_close(score_U, torch.stack(squares).mean(0) / block.width, rtol=1e-5, atol=0)


def has(model, name):
    return name in dict(model.named_modules())


def test_gradients_are_those_of_the_mean_loss_and_go_again(model, batches):
    assert len(batches) > 1
    model.train()
    with with_gradients(model, batches):
        found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
        assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    model.eval()
    torch.cat([step_of(model)(batch).loss_N for batch in batches]).mean().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, msg=name)


def test_an_error_leaves_no_gradient_behind(bert, tiny):
    with pytest.raises(ZeroDivisionError), with_gradients(bert, [tiny.batch(LENGTHS)]):
        raise ZeroDivisionError
    assert all(parameter.grad is None for parameter in bert.parameters())


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2])
def test_what_stays_is_the_most_that_is_within_the_budget(bert, share):
    sizes, scores = layer_sizes(bert), magnitude_scores(bert, None)
    budget = share * sum(block.parameters(units) for size in sizes for block, units in zip(
        size.blocks.values(), (HEADS, NEURONS), strict=True))  # fmt: skip
    layers = most_important(bert, scores, sizes, budget)
    blocks = anatomy_of(bert).blocks
    left = {(i, block.kind): block.left(layer) for i, layer in enumerate(layers) for block in blocks}
    cost = sum(sizes[i].blocks[kind].parameters(len(units)) for (i, kind), units in left.items())
    assert cost <= budget
    assert cost > budget - 2 * sizes[0].blocks["attention"].per_unit  # a head is coarse
    for kind in ("attention", "feed_forward"):
        best = {name: int(score.argmax()) for name, score in scores.items() if name[1] == kind}
        stay = [float(scores[name][u]) for name in best for u in left[name] if u != best[name]]
        go = [float(scores[name][u]) for name in best for u in range(len(scores[name])) if u not in left[name]]
        assert all(best[name] in left[name] for name in best)  # the last unit of a block stays
        assert min(stay, default=torch.inf) > max(go)


def test_a_cut_model_is_cut_further_in_numbers_of_the_original_one(bert):
    whole = copy.deepcopy(bert)
    with torch.no_grad():
        for layer in whole.bert.encoder.layer:
            layer.output.dense.weight[:, :30] = 0
            layer.intermediate.dense.weight[:30] = 0
    cut = LayerPlan(heads_removed=(3,), neurons_removed=((0, 20),))
    apply_plan_(whole, Plan("bert", 3, HEADS, NEURONS, (cut,) * 3))
    sizes = layer_sizes(whole)  # of which 24 of 84 neurons are worth nothing
    now = sum(size.blocks["attention"].parameters(3) + size.blocks["feed_forward"].parameters(28) for size in sizes)
    for layer in most_important(whole, magnitude_scores(whole, None), sizes, 0.8 * now):
        assert 3 in layer.heads_removed
        gone = {*range(NEURONS)} - {*layer.kept_neurons(NEURONS)}
        assert {*range(20)} <= gone <= {*range(30)}


def test_a_budget_below_the_last_units_is_met_by_nothing(bert):
    sizes = layer_sizes(bert)
    least = sum(size.blocks[kind].parameters(1) for size in sizes for kind in ("attention", "feed_forward"))
    assert most_important(bert, magnitude_scores(bert), sizes, least - 1) is None
    layers = most_important(bert, magnitude_scores(bert), sizes, least)
    assert all(len(layer.heads_removed) == HEADS - 1 for layer in layers)


def test_without_the_package_the_extra_is_named(bert, monkeypatch):
    monkeypatch.setattr(importance.importlib.util, "find_spec", lambda name: None)
    for scores in (magnitude_scores, taylor_scores):
        with pytest.raises(ModuleNotFoundError, match=r"Expected the package torch-pruning .* the extra `bench`"):
            scores(bert)
