"""Runs that are killed, and resumed by the same command."""

import json
import random
import signal
import time

import pytest
import torch

import train
from axformer_lightning.runs.resume import claim
from axformer_lightning.runs.state import telling
from tests.runs.runs import DYING, QUIET, SMALL, configuration, finish, no_latencies, outcome, process, times

OPTIONS = ["task=mrpc", *SMALL, "model.config.num_hidden_layers=2", "finetune_epochs=3", "retrain_epochs=2"]
OPTIONS += ["pruning.tolerance=0", "pruning.inspection_factor=2", "pruning.rounds=2"]
MID_SEARCH = 38  # the `fsync` in which a run of these options dies


@pytest.fixture
def options(write_glue):
    return [*OPTIONS, f"data_dir={write_glue('mrpc')}"]


@pytest.mark.slow
@QUIET
def test_a_run_that_is_killed_in_mid_search_goes_on_to_the_same_end(options, tmp_path, monkeypatch):
    monkeypatch.setattr(train.reporting, "latencies_ms", no_latencies)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    with process(DYING, MID_SEARCH, *options, f"hydra.run.dir={killed}") as dying:
        train.train(configuration(*options), whole)  # meanwhile
        said = dying.communicate()[0].decode()
        assert dying.returncode == -signal.SIGKILL, said
    _, *trials, torn = (killed / ".resume" / "search1.jsonl").read_text().splitlines()
    assert len(trials) > 3
    with pytest.raises(ValueError, match="Expecting|Unterminated"):  # noqa: RUF043
        json.loads(torn)
    train.train(configuration(*options, "resume=true"), killed)
    assert outcome(killed) == outcome(whole)
    assert {path.name for path in (killed / ".resume").iterdir()} == {"lock", "run.json"}

    before = times(killed)
    train.train(configuration(*options, "resume=true"), killed)
    assert times(killed) == before


@pytest.fixture
def go(options, tmp_path, monkeypatch):
    """Runs train.py in this process."""
    monkeypatch.setattr(train.reporting, "latencies_ms", no_latencies)
    directory = tmp_path / "run"
    directory.mkdir()

    def run(*overrides):
        return train.train(configuration(*options, "finetune_epochs=1", "retrain_epochs=0", *overrides), directory)

    return run


@pytest.mark.slow
@QUIET
def test_an_empty_directory_is_begun_and_a_finished_one_left_alone(go, tmp_path, monkeypatch):
    results = go("resume=true")
    assert not list((tmp_path / "run").glob(".resume/*.*pt"))
    before = times(tmp_path / "run")
    monkeypatch.setattr(train, "run_stages", None)
    assert go("resume=true") == results
    assert go("resume=true", "++trainer.enable_progress_bar=true", "logger=csv") == results
    assert times(tmp_path / "run") == before


@pytest.mark.slow
@QUIET
def test_another_configuration_is_refused_by_what_differs(go, tmp_path):
    go()
    before = times(tmp_path / "run")
    with pytest.raises(ValueError, match=r"another one: pruning.majority is 0.5 and was 0, seed is 1 and was 0\. Give"):
        go("resume=true", "seed=1", "pruning.majority=0.5")
    with pytest.raises(ValueError, match=r"trainer.precision is 'bf16-true' and was '32-true'"):
        go("resume=true", "trainer.precision=bf16-true")
    assert times(tmp_path / "run") == before


@pytest.mark.slow
@QUIET
def test_without_resume_a_run_begins_anew(go, tmp_path):
    go()
    before = times(tmp_path / "run")
    assert go("seed=1")["seed"] == 1
    after = times(tmp_path / "run")
    for name in ("results.json", "plan.json", "finetuned/model.safetensors"):
        assert after[tmp_path / "run" / name] > before[tmp_path / "run" / name]
    assert go("seed=1", "resume=true")["seed"] == 1


def test_results_of_unknown_configuration_are_refused(go, tmp_path):
    (tmp_path / "run" / "results.json").write_text("{}")
    before = times(tmp_path / "run")
    with pytest.raises(ValueError, match=r"with a results.json of unknown configuration"):
        go("resume=true")
    assert times(tmp_path / "run") == before


def test_options_that_cannot_run_leave_nothing_in_the_way_of_better_ones(go, tmp_path):
    with pytest.raises(ValueError, match="headline"):
        go("task.headline=pearson", "resume=true")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["state.json"]  # which says why


@pytest.fixture
def broken_off(go, monkeypatch):
    """Runs the first stages; the run breaks off in the function named, which has to come before those others."""

    def run(ends_in, *finished, resume="resume=false"):
        def fail(name):
            def stage(*args, **options):
                raise InterruptedError(name)

            return stage

        with monkeypatch.context() as patch:
            for name in (ends_in, *finished):
                for module in (train.stages, train.reporting):
                    if hasattr(module, name):
                        patch.setattr(module, name, fail(name))
            with pytest.raises(InterruptedError, match=ends_in):
                go("finetune_epochs=2", "retrain_epochs=1", "pruning.repair=false", resume)

    return run


STAGES = ["finetune", "search1", "retrain1", "search2", "evaluate", "judge"]  # the second search accepts nothing


@pytest.mark.slow_but_first
@QUIET
@pytest.mark.parametrize(
    ("ends_in", "finished", "not_again"),
    [("_search", 1, ["_fit"]), ("retrain_model", 2, ["_search"]), ("costs", 6, ["_fit", "_search", "dev_metrics"])],
)
def test_a_finished_stage_is_not_repeated(broken_off, tmp_path, ends_in, finished, not_again):
    broken_off(ends_in)
    before = (tmp_path / "run" / ".resume" / "stages.pt").read_bytes()
    assert [*torch.load(tmp_path / "run" / ".resume" / "stages.pt", weights_only=True)["done"]] == STAGES[:finished]
    broken_off(ends_in, *not_again, resume="resume=true")
    assert (tmp_path / "run" / ".resume" / "stages.pt").read_bytes() == before
    assert {path.name for path in (tmp_path / "run" / ".resume").iterdir()} == {"lock", "run.json", "stages.pt"}


@pytest.mark.slow
@QUIET
def test_settings_of_later_stages_may_be_corrected_before_these_begin(go, broken_off, monkeypatch):
    broken_off("_search")
    with pytest.raises(ValueError, match="seed is 1 and was 0"):
        go("finetune_epochs=2", "retrain_epochs=1", "pruning.tolerance=0.02", "seed=1", "resume=true")
    monkeypatch.setattr(train.stages, "retrain_model", lambda run, stage, *how: {"kept": "after"})
    monkeypatch.setattr(train.stages, "fine_tune", lambda run, epochs: run.progress.done["finetune"])
    corrected = ("finetune_epochs=2", "retrain_epochs=1", "pruning.tolerance=0.02", "hard_attention.k=3", "resume=true")
    results = go(*corrected)
    assert go(*corrected) == results
    with pytest.raises(ValueError, match=r"pruning\.tolerance is 0\.3 and was 0\.02"):
        go(*corrected, "pruning.tolerance=0.3")


@pytest.mark.slow
@QUIET
@pytest.mark.parametrize("name", ["run.json", "stages.pt", "finetune.ckpt"])
def test_a_record_that_cannot_be_read_is_named(go, broken_off, tmp_path, name):
    broken_off("dev_metrics" if name == "finetune.ckpt" else "_search")
    path = tmp_path / "run" / ".resume" / name
    content = path.read_bytes()
    for spoiled in (content[: len(content) // 2], b""):
        path.write_bytes(spoiled)
        with pytest.raises(ValueError, match=rf"Cannot read '{path}'.*Leave out resume=true"):
            go("finetune_epochs=2", "retrain_epochs=1", "resume=true")


@pytest.mark.parametrize("resume", [False, True])
def test_a_directory_in_use_is_refused(tmp_path, resume):
    with claim(tmp_path, {}, resume=False) as progress:
        torch.save({}, progress.checkpoint("finetune"))
        before = times(tmp_path)
        with pytest.raises(RuntimeError, match="which a live process uses"), claim(tmp_path, {}, resume=resume):
            pass
        assert times(tmp_path) == before
    with claim(tmp_path, {}, resume=True):
        pass


def test_a_finished_run_stays_so_if_what_comes_after_it_is_broken_off(tmp_path):
    def run():
        with claim(tmp_path, {"seed": 0}, resume=False) as progress:
            (tmp_path / "results.json").write_text("{}")
            progress.finish()
            raise KeyboardInterrupt  # while the page is drawn

    with pytest.raises(KeyboardInterrupt):
        run()
    with claim(tmp_path, {"seed": 0}, resume=True) as progress:
        assert progress.finished


def test_a_run_that_fails_before_it_has_made_anything_leaves_the_record_of_the_one_before(tmp_path):
    told = tmp_path / ".hydra" / "overrides.yaml"
    told.parent.mkdir()

    def begin(seed, error=None):
        with claim(tmp_path, {"seed": seed}, resume=False) as progress, telling(tmp_path):
            told.write_text(f"- seed={seed}")
            if error is not None:
                raise error
            (tmp_path / "results.json").write_text("{}")
            progress.finish()

    begin(0)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(FileNotFoundError):
        begin(1, FileNotFoundError("no data"))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    with pytest.raises(KeyboardInterrupt):
        begin(1, KeyboardInterrupt())
    with claim(tmp_path, {"seed": 1}, resume=True) as progress:  # as it is told that it can
        assert not progress.finished


def test_epochs_of_a_retraining_by_other_settings_are_not_gone_on_from(tmp_path):
    settings = {"retrain_learning_rate": 1e-3, "names": {0: "no"}}
    with claim(tmp_path, settings, resume=False) as progress:
        torch.save({"done": {"finetune": {}}}, progress.folder / "stages.pt")
        for stage in ("finetune", "retrain1"):
            torch.save({}, progress.checkpoint(stage))
    for rate, stays in ((1e-3, True), (1e-4, False)):
        with claim(tmp_path, {**settings, "retrain_learning_rate": rate}, resume=True) as progress:
            assert progress.checkpoint("finetune").exists()
            assert progress.checkpoint("retrain1").exists() is stays


def test_files_of_the_user_stay(tmp_path):
    kept = [tmp_path / "mine.tmp", tmp_path / "notes" / "mine.12345678.tmp", tmp_path / ".model.txt"]
    kept += [tmp_path / name / "mine" for name in (".model_of_mine", ".finetuned.backup")]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    with claim(tmp_path, {}, resume=False):
        assert all(path.exists() for path in kept)


def test_what_was_half_written_is_removed(tmp_path):
    with claim(tmp_path, {}, resume=False) as progress:
        torch.save({}, progress.checkpoint("finetune"))
        halves = [
            tmp_path / "plan.json.abcd_123.tmp",
            tmp_path / ".resume" / "stages.pt.abcd_123.tmp",
            tmp_path / ".taking_over.abcd_123" / "a",
            tmp_path / "model-2x" / ".saving.abcd_123" / "a",
        ]
        for path in halves:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("half")
    with claim(tmp_path, {}, resume=True) as progress:
        assert progress.checkpoint("finetune").exists()
        assert {path.name for path in tmp_path.iterdir()} == {".resume", "model-2x"}
        assert not any(path.exists() for path in (*halves, halves[3].parent))


def moment(directory):
    """What a killed run was doing, as its directory tells; "search" also stands for the report at the end."""
    folder = directory / ".resume"
    done = torch.load(folder / "stages.pt", weights_only=True)["done"] if (folder / "stages.pt").exists() else {}
    halves = [*directory.glob("*.tmp"), *folder.glob("*.tmp"), *directory.glob(".*/*.tmp")]
    doing = "finetune" if not done else "retrain" if [*done][-1].startswith("search") else "search"
    return {doing, *("writing" for _ in halves)}


STRUCK = {"finetune", "search", "retrain", "writing"}


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("seed", "more"), [(0, []), (1, ["pruning.retrain=rewind", "retrain_on_all=true", "predict_test=true"])]
)
def test_a_run_may_be_killed_at_any_moment(options, tmp_path, seed, more):
    options = [*options, "pruning.inspection_factor=0.5", "retrain_epochs=4"]  # as long in training as in search
    with process(DYING, 0, *options, *more, f"hydra.run.dir={tmp_path / 'whole'}") as uninterrupted:
        num_writes = int(finish(uninterrupted).split()[-1])
    whole, chance, seen, kills, runs = outcome(tmp_path / "whole"), random.Random(seed), set(), 0, 0

    def goes_on():
        """As long as it takes to hit every stage: how long each lasts depends on the machine."""
        return kills < 12 or (kills < 60 and not seen >= STRUCK)

    while goes_on() or not (tmp_path / str(runs - 1) / "results.json").exists():
        directory = tmp_path / str(runs)
        runs += 1
        while not (directory / "results.json").exists():
            in_write = chance.randint(1, num_writes // 2) if goes_on() and chance.random() < 0.6 else 0
            command = (*options, *more, f"hydra.run.dir={directory}", "resume=true")
            with process(DYING, in_write, *command) as made:
                if not in_write and goes_on():
                    assert any(line == b"begun\n" for line in made.stdout)
                    time.sleep(chance.uniform(0, 2.5))
                    made.kill()
                said = made.communicate()[0].decode()
                assert made.returncode in (0, -signal.SIGKILL), said
            if made.returncode:
                kills += 1
                seen |= moment(directory)
        assert outcome(directory) == whole
    assert kills >= 12
    assert seen >= STRUCK
