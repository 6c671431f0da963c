"""What refers to old parameters follows a cut, or is refused before training."""

import copy
import weakref
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from torch import nn

from axformer_lightning.surgery import cut_
from axformer_lightning.training import carry_over, check_references, contents_of, copies_of
from tests.training.test_training import plan_for, step

pytestmark = [pytest.mark.one_family, pytest.mark.one_implementation]


class Module(L.LightningModule):
    def __init__(self, net):
        super().__init__()
        self.net = net


class Holds(L.Callback):
    """Keeps something."""

    def __init__(self, kept):
        self.kept = kept


class Follows(Holds):
    def axformer_cut(self, edits):
        raise NotImplementedError


class Average:
    """An average of a user's own, as of a package that is not known."""

    def __init__(self, parameters):
        self.shadow = [parameter.detach().clone() for parameter in parameters]
        self.refs = [weakref.ref(parameter) for parameter in parameters]


class Wraps(torch.optim.Optimizer):
    """An optimizer around another one, as Lookahead and SAM are written."""

    def __init__(self, parameters, inner):
        super().__init__(parameters, {})
        self.inner = inner(self.param_groups)
        self.param_groups = self.inner.param_groups

    def step(self, closure=None):
        self.inner.step()


@pytest.fixture
def module(model):
    return Module(model)


def trainer(*callbacks, optimizers=()):
    return SimpleNamespace(callbacks=list(callbacks), optimizers=list(optimizers))


KEPT = {
    "parameters": lambda net: list(net.parameters()),
    "one parameter": lambda net: {"a": net.bert.encoder.layer[1].output.dense.weight},
    "keys": lambda net: dict.fromkeys(net.parameters(), 1),
    "clones": lambda net: {name: value.clone() for name, value in net.named_parameters()},
    "detached": lambda net: [value.detach() for value in net.parameters()],
    "an object": lambda net: Average(list(net.parameters())),
    "weak references": lambda net: [weakref.ref(parameter) for parameter in net.parameters()],
    "deep inside": lambda net: {"a": [(1, [list(net.parameters())])]},
}
HARMLESS = {
    "nothing": lambda net: None,
    "the model": lambda net: net,
    "a layer": lambda net: [net.bert.encoder.layer[0]],
    "other parameters": lambda net: [net.classifier.weight, nn.Parameter(torch.ones(3))],
    "few tensors": lambda net: [torch.ones(32, 32)] * 5,
    "a copy": copy.deepcopy,
}


@pytest.mark.parametrize("kept", KEPT.values(), ids=KEPT)
def test_what_would_be_left_behind_is_named(module, kept):
    with pytest.raises(ValueError, match=r"but Holds\.kept.* would not.*`axformer_cut\(self, edits\)`"):
        check_references(trainer(Holds(kept(module.net))), module, module.net)
    check_references(trainer(Follows(kept(module.net))), module, module.net)
    module.kept = kept(module.net)
    with pytest.raises(ValueError, match=r"but Module\.kept"):
        check_references(trainer(), module, module.net)
    module.axformer_cut = print
    check_references(trainer(), module, module.net)


@pytest.mark.parametrize("kept", HARMLESS.values(), ids=HARMLESS)
def test_what_a_cut_does_not_touch_is_not_refused(module, kept):
    module.kept = kept(module.net)
    check_references(trainer(Holds(kept(module.net))), module, module.net)


def test_an_optimizer_that_keeps_parameters_of_its_own_is_refused(module):
    optimizers = [torch.optim.SGD(module.parameters(), 0.1), torch.optim.AdamW(module.parameters())]
    check_references(trainer(optimizers=optimizers), module, module.net)
    check_references(trainer(optimizers=[Wraps(module.parameters(), torch.optim.AdamW)]), module, module.net)
    with pytest.raises(ValueError, match=r"LBFGS\._params would not"):
        check_references(trainer(optimizers=[torch.optim.LBFGS(module.parameters())]), module, module.net)


def test_the_optimizer_inside_another_follows(model, batch):
    plain, wrapped = copy.deepcopy(model), model
    steps = {}
    for net, make in ((plain, torch.optim.AdamW), (wrapped, lambda groups: Wraps(groups, torch.optim.AdamW))):
        optimizer = make(net.parameters())
        step(net, optimizer, batch)
        carry_over(optimizer, cut_(net, plan_for(net)))
        step(net, optimizer, batch)
        steps[net] = optimizer
    for one, other in zip(plain.parameters(), wrapped.parameters(), strict=True):
        assert torch.equal(one, other)
    assert len(steps[wrapped].inner.state) == len(steps[plain].state)


def test_copies_that_nothing_trains_are_found_and_told_to_change_or_not(module):
    module.average, module.trained = copy.deepcopy(module.net), copy.deepcopy(module.net)
    holds = Holds({"teacher": copy.deepcopy(module)})
    optimizer = torch.optim.SGD([*module.net.parameters(), *module.trained.parameters()])
    found = copies_of(trainer(holds, optimizers=[optimizer]), module, module.net)
    inside = holds.kept["teacher"]
    assert set(found) == {module.average, inside.net, inside.average, inside.trained}
    module.average.classifier.bias.data.mul_(1.5)
    assert [part for part, before in found.items() if contents_of(part) != before] == [module.average]
