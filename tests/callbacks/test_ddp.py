"""Two processes search, cut and train as one. The fits are in ddp_run.py, which Lightning starts once per process."""

import copy
import importlib.util
import os
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    SingleDeviceXLAStrategy,
    XLAStrategy,
)
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from axformer_lightning import (
    AccuracyDrivenPruningCallback,
    HardAttentionCallback,
    Plan,
    apply_plan_,
    find_plan,
)
from axformer_lightning.anatomy import LayerPlan, anatomy_of
from axformer_lightning.callbacks import settings_of
from axformer_lightning.callbacks.checks import check_strategy
from axformer_lightning.callbacks.sharing import undivided
from axformer_lightning.costs import count_encoder_parameters
from axformer_lightning.criteria import Rule
from axformer_lightning.replay import Ranks
from axformer_lightning.rounds import search_and_cut_
from axformer_lightning.scoring import search_batches
from axformer_lightning.search import Pruning, SearchSettings, search_plan
from axformer_lightning.tasks import TASKS, TextClassifier
from axformer_lightning.training import follows_workers

SCRIPT = Path(__file__).with_name("ddp_run.py")
ROOT = Path(__file__).parents[2]
CASES = ("search", "validation", "parts", "metric", "rewind")


def load_script():
    spec = importlib.util.spec_from_file_location("ddp_run_imported", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(out, *cases):
    """Run the fits of these names, and return what became of them."""
    environment = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "MASTER_PORT")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(SCRIPT), str(out), *cases]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def subprocesses(tmp_path_factory):
    """What two processes that Lightning started as scripts saw, by case, and what they wrote."""
    out = tmp_path_factory.mktemp("ddp")
    names = (*CASES, "budget", "repaired", "averages", "broken")
    done = run(out, "refused", "fork", *names)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = {case: [torch.load(out / f"{case}-{rank}.pt", weights_only=False) for rank in (0, 1)] for case in names}
    return SimpleNamespace(seen=seen, output=done.stderr, out=out)


@pytest.fixture
def workers(request, tmp_path):
    """Returns what processes saw that were forked or spawned, and the main process after them."""

    def seen(start):
        out = tmp_path
        if start == "fork":
            out = request.getfixturevalue("subprocesses").out
        else:
            done = run(out, start)
            assert done.returncode == 0, done.stderr[-3000:]
        return {name: torch.load(out / f"{start}-{name}.pt", weights_only=False) for name in (0, 1, "main")}

    return seen


@pytest.fixture(scope="module")
def script():
    return load_script()


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.xdist_group("ddp")
@pytest.mark.parametrize("case", [*CASES, "budget", "repaired"])
def test_both_ranks_cut_alike_and_end_with_the_same_weights(subprocesses, case):
    first, second = subprocesses.seen[case]
    assert first["plan"] == second["plan"]
    assert not first["plan"].removes_nothing
    assert first["step"] == second["step"]
    for when in ("start", "cut", "end"):
        assert_same(first[when], second[when])
    assert first["val_loss"] == second["val_loss"] < float("inf")
    assert any(not torch.equal(first["cut"][name], first["end"][name]) for name in first["end"])


@pytest.mark.xdist_group("ddp")
@pytest.mark.parametrize("case", CASES)
def test_the_plan_is_that_of_one_process(subprocesses, script, case):
    """To the bit, with losses and the number of samples seen: nobody stops later or earlier."""
    before = [seen["before"] for seen in subprocesses.seen[case]]
    assert_same(*(model.state_dict() for model in before))
    hard = 4 if case == "search" else None
    settings = {"criterion": "loss_and_metric", "hard_attention_k": hard, **script.LENIENT}
    if case == "metric":
        metric = MulticlassAccuracy(num_classes=2, average="micro")
        settings |= {"criterion": metric, "majority": 0, "tolerance": 0.3}
    batches = {"validation": (33, 1), "parts": (20, 2)}.get(case, (37, 2))
    plan = find_plan(before[0], script.loader(*batches), **settings)
    assert subprocesses.seen[case][0]["plan"] == plan
    assert max(decision.samples_seen for decision in plan.decisions) == batches[0]
    stopped = [decision for decision in plan.decisions if decision.samples_seen < batches[0]]
    assert bool(stopped) == (case != "metric")  # which is not known before the end


@pytest.mark.xdist_group("ddp")
def test_what_is_repaired_is_as_in_one_process(subprocesses, script):
    """But for the rounding of the sums over the ranks."""
    seen = subprocesses.seen["repaired"][0]
    model, batches = copy.deepcopy(seen["before"]), list(script.loader(37, 2))
    pruning = AccuracyDrivenPruningCallback(**script.LENIENT)
    settings = settings_of([HardAttentionCallback(k=4), pruning], [pruning])
    cut = search_and_cut_(model, model, search_batches(model, batches, 40, model.config), settings)
    assert cut.plan.repaired
    assert cut.plan.layers == seen["plan"].layers
    for name, value in model.named_parameters():
        assert torch.allclose(value, seen["cut"][f"anything.{name}"], atol=1e-5), name


@pytest.mark.xdist_group("ddp")
def test_a_budget_is_reached_and_what_is_left_is_repaired_in_both_ranks(subprocesses):
    seen = subprocesses.seen["budget"][0]
    small = apply_plan_(copy.deepcopy(seen["before"]), seen["plan"])
    assert count_encoder_parameters(seen["before"]) >= 1.8 * count_encoder_parameters(small)
    as_cut = {f"anything.{name}": value for name, value in small.state_dict().items()}
    assert any(not torch.equal(value, as_cut[name]) for name, value in seen["cut"].items())


@pytest.mark.xdist_group("ddp")
@pytest.mark.parametrize("case", [*CASES, "budget", "repaired"])
def test_the_first_gradients_after_the_cut_are_the_mean_of_those_of_the_ranks(subprocesses, case):
    first, second = subprocesses.seen[case]
    assert first["own"].keys() == first["gradients"].keys() == {name.removeprefix("anything.") for name in first["cut"]}
    for name, actual in first["gradients"].items():
        mean = (first["own"][name] + second["own"][name]) / 2
        torch.testing.assert_close(actual, mean)
        assert torch.equal(actual, second["gradients"][name])
    assert any(not torch.allclose(first["own"][name], second["own"][name]) for name in first["own"])


@pytest.mark.xdist_group("ddp")
def test_the_wrapper_is_built_anew_as_the_user_set_it(subprocesses):
    options = {case: subprocesses.seen[case][0]["options"] for case in CASES}
    assert options == {
        "search": [False, False, False],
        "validation": [False, True, False],
        "parts": [True, False, False],
        "metric": [False, False, True],
        "rewind": [False, False, False],
    }


@pytest.mark.xdist_group("ddp")
def test_averages_are_cut_in_both_ranks_and_go_on_alike(subprocesses):
    first, second = subprocesses.seen["averages"]
    assert first["plan"] == second["plan"]
    assert not first["plan"].removes_nothing
    trained, averages = zip(*first["steps"], strict=True)
    sizes = [sum(value.numel() for value in now.values()) for now in trained]
    cut_at = next(i for i, size in enumerate(sizes) if size < sizes[0])
    for i in range(cut_at + 1, len(trained)):
        for name, value in averages[i].items():
            torch.testing.assert_close(value, (averages[i - 1][name] + trained[i][name]) / 2)
    for one, other in zip(first["steps"], second["steps"], strict=True):
        for ours, theirs in zip(one, other, strict=True):
            assert_same(ours, theirs)
    assert_same(first["end"], averages[-1])
    assert len(trained) > cut_at + 1  # the average went on after the cut


@pytest.mark.xdist_group("ddp")
def test_a_rewound_fit_begins_anew_from_a_file_that_one_rank_wrote(subprocesses):
    first, second = subprocesses.seen["rewind"]
    (file,) = first["files"]
    assert re.fullmatch(r"axformer_start_model_\w+\.safetensors", Path(file).name)
    assert second["files"] == []
    whole = [name for name, value in first["cut"].items() if value.shape == first["start"][name].shape]
    assert whole
    assert_same({name: first["cut"][name] for name in whole}, {name: first["start"][name] for name in whole})
    assert not list(subprocesses.out.rglob("axformer_start*"))


@pytest.mark.xdist_group("ddp")
def test_one_rank_speaks_for_both(subprocesses):
    assert subprocesses.output.count("no unbiased estimate") == 1


@pytest.mark.xdist_group("ddp")
def test_a_loss_that_is_not_finite_ends_the_search_in_both_ranks(subprocesses):
    first, second = subprocesses.seen["broken"]
    assert "got nan while scoring the model before the search" in first["error"]
    assert first == second


class Torn(Ranks):
    """A process whose partners always say something else."""

    def agree(self, parts):
        return False


@pytest.mark.parametrize(("metric", "message"), [(False, "to come to one plan"), (True, "one value of Multiclass")])
def test_processes_that_disagree_are_an_error(tiny, metric, message):
    rule = Rule(metric=MulticlassAccuracy(num_classes=3), criterion="metric") if metric else Rule()
    model, settings = tiny.model("bert"), SearchSettings(pruning=Pruning(4), rule=rule)
    error = ValueError if metric else RuntimeError
    with pytest.raises(error, match=message):
        search_plan(model, model, [tiny.batch()], settings, ranks=Torn())


@pytest.mark.xdist_group("ddp")
@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.exhaustive)])
def test_the_module_of_the_main_process_follows_its_workers(workers, start):
    first, second, main = workers(start).values()
    assert_same(first["end"], second["end"])
    assert_same(first["end"], main["end"])
    assert not main["plan"].removes_nothing
    if start == "fork":  # there the cut is followed by training, and by a look at it
        assert main["plan"] == first["plan"] == second["plan"]
        torch.testing.assert_close(
            first["gradients"], {name: (first["own"][name] + second["own"][name]) / 2 for name in first["own"]}
        )


@pytest.mark.xdist_group("ddp")
def test_workers_whose_cut_nobody_would_follow_are_refused_in_setup(subprocesses):
    error = torch.load(subprocesses.out / "refused.pt", weights_only=False)["error"]
    assert 'Use `Trainer(strategy="ddp")`; in a notebook call' in error
    assert "in setup" in error


def trainer_with(strategy):
    strategy._launcher = None
    return SimpleNamespace(strategy=strategy)


@pytest.mark.parametrize(
    "kind", [FSDPStrategy, DeepSpeedStrategy, ModelParallelStrategy, XLAStrategy, SingleDeviceXLAStrategy]
)
def test_strategies_with_parameters_of_their_own_are_refused(kind):
    strategy = kind.__new__(kind)  # most of their libraries are not here
    with pytest.raises(ValueError, match=rf"got {kind.__name__}, .*Use `Trainer\(strategy=\"ddp\"\)`"):
        check_strategy(trainer_with(strategy))


def test_other_strategies_are_not_refused():
    class Own(DDPStrategy):
        pass

    for kind in (SingleDeviceStrategy, DDPStrategy, Own):
        check_strategy(trainer_with(kind.__new__(kind)))


def test_the_fine_tuners_follow_workers(tiny):
    assert follows_workers(TextClassifier(tiny.model("bert"), TASKS["mrpc"]))
    assert not follows_workers(nn.Linear(2, 2))


def test_a_module_that_is_sent_to_a_worker_still_follows(tiny):
    """As spawned processes get it; that these hand it back is a slow test."""
    sent = pickle.loads(pickle.dumps(TextClassifier(tiny.model("bert"), TASKS["mrpc"])))
    assert follows_workers(sent)
    copied = copy.deepcopy(sent)
    plan = replace(Plan.dense(anatomy_of(copied.model)), layers=(LayerPlan("removed"),) * 3)
    apply_plan_(copied, plan)
    sent.load_state_dict(copied.state_dict())
    assert sent.model.axformer_plan == plan


def test_all_that_a_worker_tells_is_understood(tiny):
    module = TextClassifier(tiny.model("bert"), TASKS["mrpc"])
    copied = copy.deepcopy(module)
    plan = replace(Plan.dense(anatomy_of(copied.model)), layers=(LayerPlan(heads_removed=(1,)),) * 3)
    apply_plan_(copied, plan)
    module.load_state_dict(copied.state_dict())
    assert module.model.axformer_plan == plan
    assert_same(dict(module.named_parameters()), dict(copied.named_parameters()))


@pytest.mark.parametrize("in_batch_sampler", [False, True])
def test_a_divided_loader_is_read_whole_and_divided_again(script, in_batch_sampler):
    sampler = torch.utils.data.DistributedSampler(range(5), 2, 1, shuffle=False)
    options = {"sampler": sampler, "batch_size": 2}
    if in_batch_sampler:
        options = {"batch_sampler": torch.utils.data.BatchSampler(sampler, 2, drop_last=False)}
    loader = torch.utils.data.DataLoader(range(5), **options)
    with undivided([loader, [1]]) as was_divided:
        assert was_divided == [True, False]
        assert torch.cat(list(loader)).tolist() == [0, 1, 2, 3, 4]
    assert torch.cat(list(loader)).tolist() == [1, 3, 0]
