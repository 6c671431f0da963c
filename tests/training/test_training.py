import copy

import pytest
import torch
from transformers import Adafactor

from axformer_lightning import Plan, apply_plan_
from axformer_lightning.anatomy import HardAttention, LayerPlan, anatomy_of, find_transformer, layers_left
from axformer_lightning.surgery import Edit, cut_
from axformer_lightning.training import (
    PLANS_KEY,
    StartingPoint,
    apply_checkpoint_plans_,
    carry_over,
    check_all_trained,
    held_by,
)

LAYERS = (
    LayerPlan(heads_removed=(1, 3), neurons_removed=((0, 8), (24, 48))),
    LayerPlan(attention="removed", hard_attention=HardAttention(3)),
    LayerPlan(feed_forward="removed", heads_removed=(0,)),
)
OPTIMIZERS = {
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=1e-2),
    "adamw foreach": lambda groups: torch.optim.AdamW(groups, lr=1e-2, foreach=True),
    "adamw fused amsgrad": lambda groups: torch.optim.AdamW(groups, lr=1e-2, fused=True, amsgrad=True),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=1e-2, momentum=0.9),
    "adagrad": lambda groups: torch.optim.Adagrad(groups, lr=1e-2),
}


def plan_for(model, layers=LAYERS):
    anatomy = anatomy_of(model)
    sizes = (anatomy.num_layers, anatomy.num_heads, anatomy.intermediate_size)
    return Plan(anatomy.model_type, *sizes, layers)


def groups_of(model):
    decayed = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    return [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0, "lr": 1e-3}]


def step(model, optimizer, batch):
    optimizer.zero_grad()
    model(**batch).loss.backward()
    optimizer.step()


def places_kept(model, layers=LAYERS):
    """Return, by name, which entries of each parameter survive a cut: found by cutting numbered weights."""
    numbered = copy.deepcopy(model).double()
    with torch.no_grad():
        for parameter in numbered.parameters():
            parameter.copy_(torch.arange(parameter.numel(), dtype=torch.double).view_as(parameter))
    return {name: value.long() for name, value in apply_plan_(numbered, plan_for(model, layers)).named_parameters()}


def test_the_next_step_is_that_of_an_optimizer_made_by_hand(tiny, family):
    model, batch = tiny.model(family, "eager"), tiny.batch(pad_token_id=tiny.pads[family])
    assert_next_step_is_that_by_hand(model, batch, OPTIMIZERS["adamw"])


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_next_step_of_every_optimizer_is_that_of_one_made_by_hand(tiny, make):
    assert_next_step_is_that_by_hand(tiny.model("bert", "eager"), tiny.batch(), make)


def assert_next_step_is_that_by_hand(model, batch, make):
    optimizer = make(groups_of(model))
    for _ in range(3):
        step(model, optimizer, batch)

    by_hand = copy.deepcopy(model)
    places, names = places_kept(model), {parameter: name for name, parameter in model.named_parameters()}
    states = {names[parameter]: copy.deepcopy(state) for parameter, state in optimizer.state.items()}
    apply_plan_(by_hand, plan_for(model))
    other = make(groups_of(by_hand))
    for name, parameter in by_hand.named_parameters():
        other.state[parameter] = {
            key: value.flatten()[places[name]] if torch.is_tensor(value) and value.dim() else copy.deepcopy(value)
            for key, value in states[name].items()
        }

    carry_over(optimizer, cut_(model, plan_for(model)))
    for _ in range(2):
        step(model, optimizer, batch)
        step(by_hand, other, batch)
    for (name, actual), expected in zip(model.named_parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(actual, expected), name


def test_the_optimizer_holds_exactly_the_live_parameters_in_the_same_groups(tiny, family):
    model = tiny.model(family, "eager")
    optimizer = torch.optim.AdamW(groups_of(model))
    carry_over(optimizer, cut_(model, plan_for(model)))
    expected = groups_of(model)
    for group, wanted in zip(optimizer.param_groups, expected, strict=True):
        assert {id(p) for p in group["params"]} == {id(p) for p in wanted["params"]}
        assert group["weight_decay"] == wanted["weight_decay"]


def test_schedulers_go_on(tiny):
    model = tiny.model("bert", "eager")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    optimizer.step()
    schedule.step()
    carry_over(optimizer, cut_(model, plan_for(model)))
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_pending_gradients_follow(tiny):
    model, batch = tiny.model("bert", "eager"), tiny.batch()
    model(**batch).loss.backward()
    places = places_kept(model)
    before = {name: parameter.grad.flatten() for name, parameter in model.named_parameters()}
    apply_plan_(model, plan_for(model))
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, before[name][places[name]]), name


def test_factored_state_follows(tiny):
    old, new = torch.nn.Parameter(torch.ones(4, 3)), torch.nn.Parameter(torch.ones(2, 3))
    optimizer = torch.optim.SGD([old])
    optimizer.state[old] = {"row": torch.arange(4.0).view(4, 1), "column": torch.arange(3.0).view(1, 3)}
    carry_over(optimizer, [Edit(old, new, {0: [1, 2]})])
    assert optimizer.state[new]["row"].tolist() == [[1.0], [2.0]]
    assert optimizer.state[new]["column"].tolist() == [[0.0, 1.0, 2.0]]


def test_state_that_cannot_follow_starts_anew_and_is_named(caplog):
    old, new = torch.nn.Parameter(torch.ones(4)), torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([old], momentum=0.9)
    optimizer.state[old] = {"momentum_buffer": torch.ones(4), "odd": torch.ones(7)}
    carry_over(optimizer, [Edit(old, new, {0: [1, 2]})])
    assert optimizer.param_groups[0]["params"] == [new]
    assert dict(optimizer.state) == {}
    assert "SGD cannot follow the cut for 1 of its parameters, and starts from scratch there: 'odd' has" in caplog.text


@pytest.mark.parametrize("state", [[torch.ones(4, 4)], {"factors": torch.ones(4)}, object()])
def test_state_of_more_than_tensors_and_numbers_starts_anew_and_is_named(caplog, state):
    old, new = torch.nn.Parameter(torch.ones(4)), torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([old])
    optimizer.state[old] = {"step": 3, "factors": state}
    carry_over(optimizer, [Edit(old, new, {0: [1, 2]})])
    assert dict(optimizer.state) == {}
    assert f"starts from scratch there: 'factors' is a {type(state).__name__}, its parameter had" in caplog.text


def test_names_in_the_groups_of_an_optimizer_stay_those_of_their_parameters(tiny, tmp_path):
    model = tiny.model("bert", "eager")
    optimizer = torch.optim.AdamW(model.named_parameters())
    start = StartingPoint.save(tmp_path / "start.safetensors", model, layers_left(model), [optimizer])
    carry_over(optimizer, cut_(model, plan_for(model)))
    names = {parameter: name for name, parameter in model.named_parameters()}
    (group,) = optimizer.param_groups
    assert group["param_names"] == [names[parameter] for parameter in group["params"]]
    start.rewind_(model, model, [optimizer])
    assert group["param_names"] == [names[parameter] for parameter in group["params"]]


def test_a_factored_optimizer_of_transformers_trains_on(tiny, caplog):
    model, batch = tiny.model("bert", "eager"), tiny.batch()
    optimizer = Adafactor(model.parameters(), lr=1e-3, relative_step=False)
    model(**batch).loss.backward()
    optimizer.step()
    carry_over(optimizer, cut_(model, plan_for(model)))
    optimizer.zero_grad()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    model(**batch).loss.backward()
    optimizer.step()
    assert "Adafactor cannot follow" in caplog.text
    still = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    assert [name for name in still if "key.bias" not in name] == []


def test_what_no_optimizer_held_before_need_not_be_held_after(tiny):
    model = tiny.model("bert", "eager")
    optimizer = torch.optim.AdamW([p for name, p in model.named_parameters() if "bias" not in name])
    held = held_by([optimizer])
    edits = cut_(model, plan_for(model))
    carry_over(optimizer, edits)
    check_all_trained(model, [optimizer], edits, held)
    assert len(held_by([optimizer])) < len(held)


def test_a_forgotten_optimizer_is_loud(tiny):
    model = tiny.model("bert", "eager")
    optimizer = torch.optim.AdamW(model.parameters())
    held = held_by([optimizer])
    edits = cut_(model, plan_for(model))
    with pytest.raises(RuntimeError, match=r"would not be trained: .*attention\.self\.query\.weight"):
        check_all_trained(model, [optimizer], edits, held)
    carry_over(optimizer, edits)
    check_all_trained(model, [optimizer], edits, held)


@pytest.mark.parametrize("cut_at_start", [False, True])
def test_rewinding_gives_the_start_weights_in_the_cut_shape(tiny, family, tmp_path, cut_at_start):
    model, batch = tiny.model(family, "eager"), tiny.batch(pad_token_id=tiny.pads[family])
    module = torch.nn.ModuleDict({"inner": model, "own": torch.nn.Linear(2, 2)})
    if cut_at_start:
        apply_plan_(module, plan_for(model, (LayerPlan(heads_removed=(1,)), LayerPlan(), LayerPlan())))
    expected = {
        f"inner.{name}": value for name, value in apply_plan_(copy.deepcopy(model), plan_for(model)).named_parameters()
    }
    expected |= {f"own.{name}": value.clone() for name, value in module["own"].named_parameters()}
    optimizer = torch.optim.AdamW(groups_of(module), lr=0.5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.1**epoch)
    start = StartingPoint.save(tmp_path / "start.safetensors", module, layers_left(model), [optimizer], [schedule])
    for _ in range(2):
        step(model, optimizer, batch)
        schedule.step()
    with torch.no_grad():
        module["own"].weight.add_(1.0)
    carry_over(optimizer, cut_(model, plan_for(model)))
    start.rewind_(module, find_transformer(module), [optimizer], [schedule])
    assert dict(module.named_parameters()).keys() == expected.keys()
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, expected[name]), name
    assert not optimizer.state
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 1e-3]
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 1e-4])


def test_the_weights_of_another_fit_are_not_taken_for_ones_own(tiny, tmp_path):
    model, path = tiny.model("bert", "eager"), tmp_path / "start.safetensors"
    mine = StartingPoint.save(path, model, layers_left(model))
    mine.rewind_weights_(model, model)
    StartingPoint.save(path, tiny.model("bert", "eager", seed=1), layers_left(model))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="that this fit began with, got those of another"):
        mine.rewind_weights_(model, model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_that_is_cut_further_than_its_checkpoint_gets_its_layers_back(tiny, logits, caplog):
    model, dense = tiny.model("bert", "eager"), LayerPlan()
    before = plan_for(model, (LayerPlan(heads_removed=(1,)), dense, dense))
    weights = copy.deepcopy(apply_plan_(model, before).state_dict())
    expected = logits(model, tiny.batch())
    apply_plan_(model, plan_for(model, (LayerPlan("removed"), dense, LayerPlan(neurons_removed=((0, 8),)))))
    apply_checkpoint_plans_(model, {"callbacks": {"A": {PLANS_KEY: [{"model": None, "plan": before.to_dict()}]}}})
    assert model.axformer_plan == before
    assert "from before a cut and brings back what was removed from BertForSequenceClassification" in caplog.text
    model.load_state_dict(weights)
    assert torch.equal(logits(model, tiny.batch()), expected)


def test_a_checkpoint_without_plans_changes_nothing(tiny):
    model = tiny.model("bert", "eager")
    apply_checkpoint_plans_(model, {"callbacks": {"Other": {"x": 1}, "Odd": 3}})
    assert not hasattr(model, "axformer_plan")
