import random
from collections import Counter, deque

import numpy
import torch
from torch import nn
from torchmetrics import MeanMetric

from axformer_lightning.basics import untouched


class Plain:
    """An object of a user's own."""

    def __init__(self):
        self.calls, self.words = 0, {"a": [1]}


class Busy(nn.Module):
    """Leaves a trace of every call in everything that a module can keep."""

    def __init__(self):
        super().__init__()
        self.norm, self.seen, self.calls, self.last = nn.BatchNorm1d(2), [], 0, deque(maxlen=2)
        self.mean, self.hidden = MeanMetric(), {"mean": MeanMetric()}
        self.counts, self.plain, self.memory = Counter(), Plain(), torch.zeros(3)
        self.generators = torch.Generator(), random.Random(0), numpy.random.default_rng(0), numpy.random.RandomState(0)
        self.array = numpy.zeros(2)

    def forward(self, x):
        self.norm(x)
        self.seen.append(x)
        self.last.append(self.calls)
        self.calls += 1
        self.mean.update(x.mean())
        self.hidden["mean"].update(x.mean())
        self.counts["a"] += 1
        self.plain.calls += 1
        self.plain.words["a"].append(2)
        self.plain.words["b"] = []
        self.memory[1] += 1
        self.array += 1
        self.new = x
        return self.drawn()

    def drawn(self):
        torch_, python, numpy_, old = self.generators
        own = torch.rand(1, generator=torch_).item(), python.random(), numpy_.random(), old.rand()
        return *own, torch.rand(1).item(), random.random(), numpy.random.rand()

    def traces(self):
        """All that it keeps, as values."""
        metrics = [(m.mean_value.item(), m.weight.item(), m._update_count) for m in (self.mean, self.hidden["mean"])]
        norm = {name: value.tolist() for name, value in self.norm.named_buffers()}
        plain = self.plain.calls, repr(self.plain.words)
        kept = [*self.memory.tolist(), *self.array.tolist()]
        return (
            len(self.seen),
            self.calls,
            list(self.last),
            metrics,
            norm,
            dict(self.counts),
            plain,
            kept,
            hasattr(self, "new"),
        )


def test_nothing_that_a_module_keeps_is_different_afterwards():
    module = Busy()
    for _ in range(2):  # also of a module that has been used before
        before, x = module.traces(), torch.randn(4, 2)
        with untouched(module):
            drawn = module(x)
        assert module.traces() == before
        assert module.drawn() == drawn
        module(torch.randn(4, 2))


def test_objects_stay_the_same_objects():
    module = Busy()
    before = module.seen, module.memory, module.norm.running_mean, module.plain
    with untouched(module):
        module(torch.randn(4, 2))
        module.seen = []
        module.norm.running_mean = torch.ones(2)
    after = module.seen, module.memory, module.norm.running_mean, module.plain
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_weights_are_brought_back_on_demand():
    module = nn.Linear(2, 2)
    before = module.weight.clone()
    with untouched(module, weights=True), torch.no_grad():
        module.weight.zero_()
    assert torch.equal(module.weight, before)
    with untouched(module), torch.no_grad():
        module.weight.zero_()
    assert not module.weight.any()


class Lazy(nn.Linear):
    """Installs a hook in its first call, and takes note of that, as models of transformers do."""

    def forward(self, x):
        if not hasattr(self, "is_installed"):
            self.is_installed = True
            self.register_forward_hook(lambda module, args, output: output + 1)
        return super().forward(x)


def test_a_hook_is_gone_together_with_the_note_that_it_is_there():
    module, x = Lazy(2, 2), torch.ones(1, 2)
    for _ in range(3):
        with untouched(module):
            module(x)
    module(x)
    torch.testing.assert_close(module(x), nn.functional.linear(x, module.weight, module.bias) + 1)
    assert len(module._forward_hooks) == 1


def test_an_error_leaves_no_trace_either():
    module = Busy()
    before = module.traces()
    try:
        with untouched(module):
            module(torch.randn(4, 2))
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert module.traces() == before
