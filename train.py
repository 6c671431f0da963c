"""Fine-tune, search, cut, retrain, report: `python train.py task=mrpc model=minilm`."""

import inspect
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import lightning as L
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_object, instantiate, to_absolute_path
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from transformers.utils.logging import disable_progress_bar

from axformer_lightning.anatomy import layers_left
from axformer_lightning.basics import write_atomically
from axformer_lightning.budgets import TARGETS, Budget
from axformer_lightning.callbacks import (
    AccuracyDrivenPruningCallback,
    DistillationCallback,
    HardAttentionCallback,
    SearchCallback,
    ShrinkCallback,
)
from axformer_lightning.distillation import Distillation
from axformer_lightning.plan import Plan
from axformer_lightning.report import plan_summary, results_table
from axformer_lightning.runs import shrinking, stages
from axformer_lightning.runs.epochs import count_epochs_from_one_
from axformer_lightning.runs.resume import RESULTS, Progress, claim
from axformer_lightning.runs.retraining import Recipe
from axformer_lightning.runs.teaching import Teacher
from axformer_lightning.tasks import KINDS, TASKS, draw, load_model, load_rows, split_off, texts_of
from axformer_lightning.training import StartingPoint
from axformer_lightning.vocabulary import trim_vocabulary_

# In a run of stages the search follows fine-tuning on the run's own search set, so these say nothing here.
ELSEWHERE = {"self", "metric", "first_epoch", "every_n_epochs", "search_dataloader", "model"}
SHOWN_ONLY = {"resume", "logger", "returned"}  # with these trainer options, what says nothing of the results
SHOWN_ONLY_BY_TRAINER = {"enable_progress_bar", "enable_model_summary"}
OVERRULED = {
    "max_epochs": "`finetune_epochs=` and `retrain_epochs=`",
    "logger": "`logger=`, for example `logger=none`",
    "default_root_dir": "`hydra.run.dir=`",
}
WITH_PRUNING = {"rounds", "retrain"}  # set in the group `pruning` for both
DEFAULT_TARGET = {"encoder_size_ratio": 2.0}


def train(cfg: DictConfig, directory: Path) -> dict[str, Any]:
    """Run all stages of one configuration that are not finished, and return what results.json holds."""
    _check(cfg)
    with _claimed(cfg, directory) as progress:
        if not progress.finished:
            _keep_configuration(cfg, directory)
            run_stages(cfg, directory, progress)
            progress.finish()
    results: dict[str, Any] = json.loads((directory / RESULTS).read_text(encoding="utf-8"))
    return results


def run_stages(cfg: DictConfig, directory: Path, progress: Progress) -> None:
    """Run the stages that are not finished, and write results.json."""
    L.seed_everything(cfg.seed, workers=True)
    task = TASKS[cfg.task.name]
    callbacks = _callbacks(cfg)
    budgets = [callback.settings for callback in callbacks if isinstance(callback.settings, Budget)]
    budget = budgets[0] if budgets and not cfg.retrain_dense else None
    callbacks = [callback for callback in callbacks if not isinstance(callback, ShrinkCallback)]
    rounds, how = (cfg.pruning.rounds, cfg.pruning.retrain) if cfg.pruning else (1, "continue")
    # pruning=budget brings a teacher along, which has nobody to teach where nothing is retrained.
    distillation = cfg.distillation if cfg.retrain_epochs or not budgets else None
    recipe = Recipe(
        cfg.retrain_epochs,
        how=how,
        on_all=cfg.retrain_on_all,
        learning_rate=cfg.retrain_learning_rate,
        ema=cfg.retrain_ema,
        keep=cfg.retrain_keep,
        headline=cfg.task.headline,
        taught=bool(distillation),
    )
    lessons = Distillation(**_options(distillation, "teacher")) if distillation else None
    data_dir = cfg.data_dir and to_absolute_path(str(cfg.data_dir))  # also where Hydra changes the directory
    rows = load_rows(cfg.task.name, data_dir, with_test=cfg.predict_test)
    train_rows, search_rows = split_off(rows.train, float(cfg.data.search_fraction), cfg.seed)
    if cfg.data.max_search_samples is not None and cfg.data.max_search_samples < len(search_rows):
        search_rows = draw(search_rows, int(cfg.data.max_search_samples), cfg.seed)
    if cfg.data.max_train_samples is not None and cfg.data.max_train_samples < len(train_rows):
        train_rows = draw(train_rows, int(cfg.data.max_train_samples), cfg.seed)
    make_data, make_module = KINDS[task.kind]
    model, tokenizer = load_model(
        task, texts=texts_of(train_rows), max_length=cfg.data.max_length, **_options(cfg.model, "learning_rate")
    )
    if cfg.trim_vocabulary:
        corpus = Path(cfg.corpus).read_text(encoding="utf-8").splitlines() if cfg.corpus else []
        tokenizer = trim_vocabulary_(model, tokenizer, [*texts_of(train_rows), *texts_of(search_rows), *corpus])
    options = _options(cfg.data, "search_fraction", "max_search_samples", "max_train_samples")
    make_data = partial(make_data, train_rows, search_rows, seed=cfg.seed, **options)
    data = make_data(rows.dev, tokenizer)
    options = _options(cfg.task, "name", "headline")
    module = make_module(model, task, data, learning_rate=cfg.model.learning_rate, **options)
    teacher = None
    if lessons is not None and cfg.distillation.teacher == "self":
        teacher = Teacher(directory / "finetuned", task, lessons)
    elif lessons is not None:
        teacher = Teacher(Path(cfg.distillation.teacher), task, lessons, partial(make_data, {}))
        teacher.check(model, tokenizer, texts_of(train_rows), cfg.data.max_length)
    start = None
    if how == "rewind":
        start = StartingPoint.save(directory / "start.safetensors", module, layers_left(model))

    def make_trainer(stage: str, epochs: int) -> L.Trainer:
        own = {"max_epochs": epochs, "logger": _loggers(cfg.logger, stage, directory) if epochs else False}
        trainer: L.Trainer = instantiate(cfg.trainer, **own, default_root_dir=str(directory))
        count_epochs_from_one_(trainer)
        return trainer

    progress.restore_(module)
    show_progress = bool(cfg.trainer.get("enable_progress_bar", True))
    run = stages.Run(directory, module, data, tokenizer, make_trainer, show_progress, progress)
    baseline = stages.fine_tune(run, cfg.finetune_epochs)
    search, retraining = stages.search_and_cut(
        run,
        callbacks,
        rounds=rounds,
        recipe=recipe if budget is None else Recipe(0),
        start=start,
        teacher=teacher,
        dense=cfg.retrain_dense,
        max_length=cfg.data.max_length,
    )
    if budget is not None:
        data.train_on_all = recipe.on_all
        again = (
            partial(stages.retrain_model, run, recipe=recipe, start=start, teacher=teacher) if recipe.epochs else None
        )
        points = shrinking.shrink_to_budget(run, budget, ratios=cfg.pruning.ratios or (), retrain=again)
        retraining = [point["retraining"] for point in points if "retraining" in point]
    stages.save_model(run)
    reporter = make_trainer("report", 0)
    metrics = {"baseline": baseline, "axformer": stages.evaluate(run, reporter, rows.test)}
    if start is not None:
        start.path.unlink()
    costs = stages.costs(run, cfg.data.max_length)
    results = {
        "task": cfg.task.name,
        "model": cfg.model.pretrained or "tiny",
        "seed": cfg.seed,
        "device": stages.device_name(reporter.strategy.root_device),
        "accepted": search["accepted"],
        **{name: {"metrics": metrics[name], **costs[name]} for name in ("baseline", "axformer")},
        "search": search,
        "retraining": retraining,
        "plan": "plan.json",
        "artifact": "model",
    }
    stages.save_results(directory, results)


def _check(cfg: DictConfig) -> None:
    """Refuse what could not work, or would be overruled without a word."""
    for name, least in (("finetune_epochs", 0), ("retrain_epochs", 0), ("data.max_length", 1)):
        if (value := OmegaConf.select(cfg, name)) is not None and value < least:
            raise ValueError(f"Expected `{name}` to be at least {least}, got {value}.")
    for name, instead in OVERRULED.items():
        if name in cfg.trainer:
            raise ValueError(f"Expected `trainer.{name}` to be left to the stages of a run. Set {instead}.")
    if unknown := {*_returned(cfg)} - {"headline", "removed"}:
        raise ValueError(f"Expected `returned` to name 'headline', 'removed' or both, got {sorted(map(str, unknown))}.")


def _loggers(cfg: Any, stage: str, directory: Path) -> Any:
    """Return the logger of a stage, or all of several: with the place and the name that their constructors take."""
    if not cfg:
        return False
    if "_target_" not in cfg:
        return [_loggers(one, stage, directory) for one in cfg.values() if one]
    takes = inspect.signature(get_object(cfg["_target_"])).parameters
    local = (
        "id" not in takes and "name" in takes
    )  # others take the version for the id of a run, which has to be its own
    given = {"save_dir": str(directory), "version": stage if local else f"{directory.name}_{stage}"}
    return instantiate(cfg, **{name: value for name, value in given.items() if name in takes and cfg.get(name) is None})


def _returned(cfg: DictConfig) -> list[str]:
    names = cfg.get("returned", "headline")
    return [names] if isinstance(names, str) else list(names)


def _value(cfg: DictConfig, results: Mapping[str, Any]) -> float | tuple[float, ...]:
    """Return what a sweeper goes by."""
    dense, cut = results["baseline"], results["axformer"]
    found = {
        "headline": float(cut["metrics"][cfg.task.headline]),
        "removed": 1 - cut["encoder_parameters"] / dense["encoder_parameters"],
    }
    values = tuple(found[name] for name in _returned(cfg))
    return values[0] if len(values) == 1 else values


def _claimed(cfg: DictConfig, directory: Path) -> AbstractContextManager[Progress]:
    alone = instantiate(cfg.trainer, logger=False).world_size == 1
    if alone:
        return claim(directory, _configuration(cfg), resume=cfg.resume)
    if cfg.resume:
        raise ValueError("Expected one device with resume=true, got several. Set trainer.devices=1.")
    return nullcontext(Progress())


def _configuration(cfg: DictConfig) -> dict[str, Any]:
    """Return everything that the results depend on."""
    parts = {str(name): part for name, part in cfg.items() if name not in SHOWN_ONLY}
    plain: dict[str, Any] = {
        name: OmegaConf.to_container(part, resolve=True) if OmegaConf.is_config(part) else part
        for name, part in parts.items()
    }
    for option in SHOWN_ONLY_BY_TRAINER:
        plain["trainer"].pop(option, None)
    return plain


def _keep_configuration(cfg: DictConfig, directory: Path) -> None:
    """Write `.hydra/` as Hydra does by itself, which would do so before the directory can be refused."""
    if HydraConfig.initialized():
        hydra_cfg = HydraConfig.get()
        folder = directory / ".hydra"
        folder.mkdir(exist_ok=True)
        for name, part in (("config", cfg), ("hydra", {"hydra": hydra_cfg}), ("overrides", hydra_cfg.overrides.task)):
            write_atomically(folder / f"{name}.yaml", OmegaConf.to_yaml(OmegaConf.create(part)))


def _options(group: DictConfig, *left_out: str) -> dict[str, Any]:
    """Return the arguments that a group holds for what is made from it."""
    options: Any = OmegaConf.to_container(group, resolve=True)
    return {name: value for name, value in options.items() if name not in left_out}


def _callbacks(cfg: DictConfig) -> list[SearchCallback]:
    metric = TASKS[cfg.task.name].metric(cfg.task.headline)
    found = []
    for group in (cfg.hard_attention, cfg.pruning):
        if group:
            options = _options(group, "ratios")
            if "ratios" in group and not any(options[name] for name in TARGETS):
                options |= DEFAULT_TARGET
            found.append(instantiate(options, _partial_=True)(metric=metric))  # not copied: both go by the same
    return found


def _arguments(callback: type, left_out: set[str]) -> dict[str, Any]:
    """Return a callback's arguments and defaults: they live in its signature and nowhere else."""
    parameters = inspect.signature(callback.__init__).parameters  # type: ignore[misc]
    return {name: parameter.default for name, parameter in parameters.items() if name not in left_out}


store = ConfigStore.instance()
store.store(group="pruning", name="signature", node=_arguments(AccuracyDrivenPruningCallback, ELSEWHERE))
store.store(group="pruning", name="shrink_signature", node=_arguments(ShrinkCallback, ELSEWHERE))
store.store(group="distillation", name="signature", node=_arguments(DistillationCallback, ELSEWHERE | {"teacher"}))
store.store(group="hard_attention", name="signature", node=_arguments(HardAttentionCallback, ELSEWHERE | WITH_PRUNING))


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | tuple[float, ...]:
    """Run one configuration in Hydra's output directory, show what came of it, and return what sweepers go by."""
    # Four trainers and many loads per run: what they all repeat would bury what matters.
    for name in ("lightning.pytorch.utilities.rank_zero", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # lightning 2.6 on torch 2.13
    directory = Path(HydraConfig.get().runtime.output_dir)
    try:
        results = train(cfg, directory)
    except (ValueError, OSError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1" or HydraConfig.get().mode == RunMode.MULTIRUN:
            raise  # of several runs one that ends the process would take the others along
        sys.exit(f"{error}\n(HYDRA_FULL_ERROR=1 shows where this was raised.)")
    except SIGTERMException:
        sys.stderr.write(f"Interrupted. The same command with hydra.run.dir='{directory}' resume=true goes on.\n")
        sys.exit(128 + signal.SIGTERM)
    console = Console()
    console.print(results_table(results))
    console.print(plan_summary(Plan.load(directory / "plan.json")))
    console.print(
        f"Everything is in {escape(str(directory))}: results.json, plan.json, plan.png (what is left), finetuned/ and"
        " model/.",
        "Next: python train.py -m seed=0,1,2 pruning.tolerance=0,0.05",
        sep="\n",
        soft_wrap=True,
    )
    return _value(cfg, results)


if __name__ == "__main__":
    main()
