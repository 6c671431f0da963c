"""A fit that dies in mid-search and is resumed by `ckpt_path="last"`, as in a user's own script."""

import copy
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from axformer_lightning import AccuracyDrivenPruningCallback, HardAttentionCallback
from axformer_lightning.callbacks import round as round_of_fit
from axformer_lightning.search import find
from axformer_lightning.search.baseline import Baseline

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")


class PowerCutError(Exception):
    pass


@pytest.fixture
def evaluated(monkeypatch):
    """What is evaluated, in order; set `.dies_at` to the number of an evaluation that never ends."""

    class Evaluated(list):
        dies_at = None

    seen, measure, measure_base = Evaluated(), Baseline.measure, find.measure_baseline

    def note(candidates):
        if len(seen) == seen.dies_at:
            raise PowerCutError
        seen.append(candidates)

    def record(self, candidates, *args):
        note(candidates)
        return measure(self, candidates, *args)

    def record_base(*args):
        note(())
        return measure_base(*args)

    monkeypatch.setattr(Baseline, "measure", record)
    monkeypatch.setattr(find, "measure_baseline", record_base)
    return seen


@pytest.fixture
def train(module, fit, search_loader, tmp_path):
    """Fits a copy of the module by the same script, each time with objects of its own."""
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0  # Lightning checkpoints hold no random state

    def run(folder, rounds=1, word_of=None, **options):
        mine = copy.deepcopy(module)
        if word_of is not None:
            mine.anything.classifier.weight.data.mul_(word_of)
        pruning = AccuracyDrivenPruningCallback(
            4, 2.0, majority=0, tolerance=0.05, rounds=rounds, search_dataloader=search_loader
        )
        saver = ModelCheckpoint(tmp_path / folder, save_last=True)
        callbacks = [HardAttentionCallback(k=4), pruning, saver]
        fit(mine, callbacks, max_epochs=4, enable_checkpointing=True, shuffle=False, **options)
        return mine, pruning.plan

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("rounds", "dies_at"), [(1, 1), (2, 17)])
def test_a_resumed_fit_repeats_no_candidate_and_ends_alike(train, evaluated, tmp_path, rounds, dies_at):
    whole, plan = train("whole", rounds)
    tried = list(evaluated)
    assert not list(tmp_path.glob("axformer_search*"))
    evaluated.clear()
    evaluated.dies_at = dies_at
    with pytest.raises(PowerCutError):
        train("killed", rounds)
    (journal,) = tmp_path.glob("axformer_search*")
    assert evaluated == tried[:dies_at]
    evaluated.dies_at = None
    evaluated.clear()
    resumed, again = train("killed", rounds, ckpt_path="last")
    assert evaluated == [(), *tried[dies_at:]]
    assert again == plan
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert not journal.exists()


@pytest.mark.slow
def test_the_journal_of_another_job_in_the_directory_is_left_alone(train, tmp_path, monkeypatch):
    names, unlink = [], Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda self, **options: names.append(self.name) or unlink(self, **options))
    for word_of in (1, 2):
        train(f"job {word_of}", word_of=word_of)
        (tmp_path / "axformer_search_anything_0123456789abcdef.jsonl").write_text("of another job")
    journals = {name for name in names if name.startswith("axformer_search_anything_") and name.endswith(".jsonl")}
    assert len(journals) == 2  # each has a name of its own
    assert [path.read_text() for path in tmp_path.glob("axformer_search*")] == ["of another job"]


@pytest.mark.slow
def test_a_fit_that_dies_after_the_cut_does_not_search_again(train, evaluated, tmp_path, monkeypatch):
    _, plan = train("whole")
    with monkeypatch.context() as patch:
        patch.setattr(round_of_fit, "check_all_trained", lambda *args: (_ for _ in ()).throw(PowerCutError))
        with pytest.raises(PowerCutError):
            train("killed")
    evaluated.clear()
    assert train("killed", ckpt_path="last")[1] == plan
    assert evaluated == [()]
