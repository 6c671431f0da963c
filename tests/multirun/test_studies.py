"""Studies with trials that take no time in the place of jobs."""

import importlib
import io
import re
import sys
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from rich.console import Console

optuna = pytest.importorskip("optuna")

from axformer_lightning.basics import write_json  # noqa: E402
from axformer_lightning.multirun import register_plugins, sweeper  # noqa: E402
from axformer_lightning.multirun.jobs import Job  # noqa: E402
from axformer_lightning.multirun.registering import OPTUNA  # noqa: E402
from axformer_lightning.multirun.spaces import space_of  # noqa: E402
from axformer_lightning.multirun.studies import STOOD, Outcome, is_hopeless, open_study, run_study  # noqa: E402
from axformer_lightning.runs.state import State  # noqa: E402

BETTER = "maximize", "minimize"
SPACE = {"x": ("suggest_float", {"low": 0.0, "high": 1.0}), "kind": ("suggest_categorical", {"choices": ["a", "b"]})}
SAMPLER = {"_target_": "optuna.samplers.TPESampler", "seed": 0}
OPTIONS = {"n_trials": 8, "n_jobs": 2, "sampler": SAMPLER, "prune": None, "prune_after": 2}


def values_of(trial):
    return trial.params["x"], 1.0 + trial.params["x"] - (trial.params["kind"] == "a")


def run(trials, halt):
    return [Outcome(values_of(trial)) for trial in trials]


def trials_of(study):
    return [(trial.params, trial.values, trial.state.name) for trial in study.trials]


@pytest.fixture
def study():
    return optuna.create_study(directions=BETTER)


@pytest.mark.parametrize(
    ("words", "question"),
    [
        ("x=interval(0, 0.5)", ("suggest_float", {"low": 0.0, "high": 0.5, "log": False})),
        ("x=int(interval(1, 5))", ("suggest_int", {"low": 1, "high": 5, "log": False})),
        ("x=tag(log, interval(1e-5, 1e-3))", ("suggest_float", {"low": 1e-5, "high": 1e-3, "log": True})),
        ("x=range(1, 9, 2)", ("suggest_int", {"low": 1, "high": 7, "step": 2})),
        ("x=range(0, 1, 0.25)", ("suggest_float", {"low": 0.0, "high": 0.75, "step": 0.25})),
        ("x=mrpc,rte", ("suggest_categorical", {"choices": ["mrpc", "rte"]})),
        ("x=[1,2],[3]", ("suggest_categorical", {"choices": ["[1,2]", "[3]"]})),
    ],
)
def test_what_sweeps_becomes_a_question(study, words, question):
    assert space_of(["seed=0", words]) == (["seed=0"], {"x": question})
    method, options = question
    assert getattr(study.ask(), method)("x", **options) is not None


@pytest.mark.parametrize("words", ["x=range(5, 5)", "x=glob(nothing*)"])
def test_a_setting_without_values_is_refused(words):
    loader = SimpleNamespace(get_group_options=lambda *_, **options: [])  # as `glob` asks for them
    with pytest.raises(ValueError, match=f"values to choose from, got none in {re.escape(repr(words))}"):
        space_of(["y=1,2", words], loader)


def test_a_study_ends_after_so_many_trials_and_more_can_be_added(study):
    run_study(study, SPACE, run, **OPTIONS)
    before = trials_of(study)
    assert len({params["x"] for params, *_ in before}) == 8  # none is proposed twice
    run_study(study, SPACE, lambda *_: pytest.fail("nothing is left to run"), **OPTIONS)
    run_study(study, SPACE, run, **OPTIONS | {"n_trials": 10})
    assert trials_of(study)[:8] == before
    assert len(study.trials) == 10


@pytest.mark.slow
@pytest.mark.parametrize("dies_at", [1, 4, 7])
def test_a_study_that_is_killed_ends_as_an_undisturbed_one(tmp_path, dies_at):
    run_study(whole := open_study(tmp_path, "whole", BETTER), SPACE, run, **OPTIONS)
    asked = []

    def dying(trials, halt):
        asked.extend(trials)
        if len(asked) >= dies_at:
            raise KeyboardInterrupt
        return run(trials, halt)

    with pytest.raises(KeyboardInterrupt):
        run_study(open_study(tmp_path, "killed", BETTER), SPACE, dying, **OPTIONS)
    run_study(again := open_study(tmp_path, "killed", BETTER), SPACE, run, **OPTIONS)
    assert trials_of(again) == trials_of(whole)


@pytest.mark.slow_but_first
@pytest.mark.filterwarnings("ignore:Argument ``multivariate``")
@pytest.mark.parametrize(("own", "dies_at"), [({}, 1), ({}, 7), ({"multivariate": True}, 13)])
def test_a_study_that_is_killed_while_it_proposes_ends_as_an_undisturbed_one(tmp_path, monkeypatch, own, dies_at):
    options = OPTIONS | {"sampler": SAMPLER | {"n_startup_trials": 4} | own}
    run_study(whole := open_study(tmp_path, "whole", BETTER), SPACE, run, **options)
    proposed = []

    def dying(suggest):
        def method(*args, **options):
            proposed.append(suggest(*args, **options))
            if len(proposed) == dies_at:
                raise KeyboardInterrupt
            return proposed[-1]

        return method

    with monkeypatch.context() as patch:
        for name in ("suggest_float", "suggest_categorical"):
            patch.setattr(optuna.trial.Trial, name, dying(getattr(optuna.trial.Trial, name)))
        with pytest.raises(KeyboardInterrupt):
            run_study(open_study(tmp_path, "killed", BETTER), SPACE, run, **options)
    run_study(again := open_study(tmp_path, "killed", BETTER), SPACE, run, **options)
    assert trials_of(again) == trials_of(whole)


@pytest.mark.parametrize("name", ["a b", "größe", "what?x=1", "50%25 of", "{x}", "a#b"])
def test_a_study_is_kept_in_its_directory_whatever_that_is_called(tmp_path, name):
    (tmp_path / name).mkdir()
    open_study(tmp_path / name, "study", BETTER)
    assert [*tmp_path.rglob("study.db")] == [tmp_path / name / "study.db"]


def test_a_trial_that_fails_stops_no_other_and_says_why(study):
    def failing(trials, halt):
        return [Outcome(None, reason="no disk") if trial.number == 1 else Outcome(values_of(trial)) for trial in trials]

    run_study(study, SPACE, failing, **OPTIONS)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", *["COMPLETE"] * 6]
    assert study.trials[1].user_attrs["reason"] == "no disk"


@pytest.mark.parametrize(("kills", "ends"), [(1, "COMPLETE"), (2, "FAIL")])
def test_a_trial_whose_job_is_killed_goes_on_once(study, kills, ends):
    runs = []

    def killing(trials, halt):
        runs.append([trial.number for trial in trials])
        counts = [sum(trial.number in one for one in runs) for trial in trials]
        killed = [trial.number == 2 and count <= kills for trial, count in zip(trials, counts, strict=True)]
        return [
            Outcome(None if dies else values_of(trial), reason="Killed by SIGKILL." if dies else "", killed=dies)
            for trial, dies in zip(trials, killed, strict=True)
        ]

    run_study(study, SPACE, killing, **OPTIONS)
    assert runs == [[0, 1], [2, 3], [2], [4, 5], [6, 7]]
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2 + [ends] + ["COMPLETE"] * 5
    assert study.trials[2].user_attrs == ({} if ends == "COMPLETE" else {"reason": "Killed by SIGKILL."})


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"n_trials": 0}, "n_trials` to be a whole number of at least 1, got 0"),
        ({"n_jobs": -1}, "n_jobs` to be a whole number of at least 1, got -1"),
        ({"sampler": {"seed": None}}, r"sampler\.seed` to be a whole number of at least 0, got None\. It seeds"),
        ({"prune": 50}, "prune`, a share of trials, above 0 and up to 1, got 50. Set it to null"),
        ({"prune": 0}, "prune`, a share of trials, above 0 and up to 1, got 0"),
    ],
)
def test_options_of_a_study_that_are_out_of_range_are_refused(option, said):
    given = OmegaConf.create(OPTUNA)
    sweeper.check_options(given)
    with pytest.raises(ValueError, match=said):
        sweeper.check_options(OmegaConf.merge(given, option))


def test_hopeless_trials_are_not_retrained_and_the_others_are(study):
    retrained = []

    def stopping(trials, halt):
        retrained.extend([] if halt else [trial.number for trial in trials])
        worse = [1.0 if trial.number < 4 else 0.1 for trial in trials]
        return [Outcome((value, 1 / value), halted=halt) for value in worse]

    run_study(study, SPACE, stopping, **OPTIONS | {"prune": 0.5, "prune_after": 4})
    assert retrained == [0, 1, 2, 3]
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4 + ["PRUNED"] * 4


@pytest.mark.parametrize(
    ("stood", "hopeless"),
    [
        ((0.5, 1.0), True),  # both of the others are better in everything
        ((0.9, 9.0), False),  # nothing is as accurate
        ((0.1, 0.1), False),  # nothing is as fast
        ((0.75, 0.75), True),  # one of two
        ((0.8, 0.5), False),  # as good as the best
    ],
)
def test_hopeless_is_what_a_share_of_the_earlier_trials_beats_in_everything(study, stood, hopeless):
    for values in ((0.8, 0.5), (0.7, 0.6), stood):
        trial = study.ask()
        trial.set_user_attr(STOOD, list(values))
    assert is_hopeless(study, trial, share=0.5, after=2) == hopeless
    assert not is_hopeless(study, trial, share=0.5, after=3)


def test_a_trial_without_a_number_has_failed_and_says_so(tmp_path, study):
    config = OmegaConf.create({"returned": ["headline", "removed"], "task": {"headline": "pearson"}})
    sides = {side: {"metrics": {"pearson": None}, "encoder_parameters": 2} for side in ("baseline", "axformer")}
    write_json(tmp_path / "results.json", sides)
    State("done").write(tmp_path)
    outcome = sweeper.outcome_of(Job(tmp_path, (), ()), config)
    run_study(study, SPACE, lambda trials, halt: [outcome] * len(trials), **OPTIONS | {"n_trials": 1})
    assert study.trials[0].state.name == "FAIL"
    assert study.trials[0].user_attrs["reason"] == "It has ended well, but its headline is no number."


def test_without_optuna_what_brings_it_is_named(monkeypatch):
    register_plugins()
    monkeypatch.setitem(sys.modules, "optuna", None)
    for name in ("sweeper", "studies"):
        monkeypatch.delitem(sys.modules, f"axformer_lightning.multirun.{name}")
    made = importlib.import_module("hydra_plugins.axformer_lightning_sweeper").StudySweeper()
    with pytest.raises(ModuleNotFoundError, match=r"optuna to be installed, .*'axformer-lightning\[optuna\]'"):
        made.sweep([])


def test_the_first_trial_is_never_hopeless(study):
    (trial := study.ask()).set_user_attr(STOOD, [0.5, 1.0])
    assert not is_hopeless(study, trial, share=0.5, after=0)


def test_the_table_of_trials_shows_brackets_as_they_are(study):
    trial = study.ask()
    trial.suggest_categorical("pruning.ratios", ["[a,b]"])
    trial.set_user_attr("reason", "ValueError: [/so] [bold]")
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(sweeper._table(study.trials, ["headline"], []))
    said = console.export_text()
    assert "pruning.ratios=[a,b]" in said
    assert "fail ValueError: [/so] [bold]" in said
