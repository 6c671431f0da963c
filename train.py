"""Fine-tune, search, cut, retrain, report: `python train.py task=mrpc model=minilm`."""

import json
import logging
import os
import signal
import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import lightning as L
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from axformer_lightning.anatomy import layers_left
from axformer_lightning.budgets import Budget
from axformer_lightning.callbacks import Int8Callback, ShrinkCallback
from axformer_lightning.distillation import Distillation
from axformer_lightning.multirun import register_plugins
from axformer_lightning.plan import Plan
from axformer_lightning.report import plan_summary, results_table, stages_table
from axformer_lightning.report.page import try_report
from axformer_lightning.runs import milestones, reporting, shrinking, stages
from axformer_lightning.runs.checking import check_configuration
from axformer_lightning.runs.commands import next_command, words_to_resume
from axformer_lightning.runs.configured import (
    configuration_of,
    corpus_of,
    job_configuration,
    keep_configuration,
    loggers_for,
    loggers_of,
    measuring_precision,
    options_of,
    precision_of,
    recipe_of,
    returned_names,
    returned_value,
    rows_of,
    shared_directory,
)
from axformer_lightning.runs.environment import device_name
from axformer_lightning.runs.epochs import count_epochs_from_one_
from axformer_lightning.runs.groups import callbacks_of, store_groups
from axformer_lightning.runs.halting import halting
from axformer_lightning.runs.leftovers import finish_up
from axformer_lightning.runs.locks import DirectoryInUseError
from axformer_lightning.runs.logged import log_results
from axformer_lightning.runs.memory import keep_freed_memory
from axformer_lightning.runs.paths import from_where_it_was_given
from axformer_lightning.runs.resume import RESULTS, Progress, claim
from axformer_lightning.runs.retraining import Recipe
from axformer_lightning.runs.sharing import fine_tune_once
from axformer_lightning.runs.state import Halted, signal_of, sigterm_raises, telling
from axformer_lightning.runs.teaching import MORE_TEXTS, Teacher, more_texts
from axformer_lightning.tasks import KINDS, TASKS, load_model, texts_of
from axformer_lightning.training import StartingPoint
from axformer_lightning.vocabulary import trim_vocabulary_


def train(cfg: DictConfig, directory: Path) -> dict[str, Any]:
    """Run all stages of one configuration that are not finished, and return what results.json holds."""
    with claim(directory, configuration_of(cfg), resume=cfg.resume) as progress:
        if not progress.finished:
            with telling(directory) as progress.on_stage:
                check_configuration(cfg)
                keep_configuration(cfg, directory)
                run_stages(cfg, directory, progress)
                progress.finish()
            try_report(directory)
        else:
            finish_up(directory)
    results: dict[str, Any] = json.loads((directory / RESULTS).read_text(encoding="utf-8"))
    return results


def run_stages(cfg: DictConfig, directory: Path, progress: Progress) -> None:
    """Run the stages that are not finished, and write results.json."""
    L.seed_everything(cfg.seed, workers=True)
    given, cfg = cfg, from_where_it_was_given(cfg)
    task = TASKS[cfg.task.name]
    callbacks = callbacks_of(cfg)
    budgets = [callback.settings for callback in callbacks if isinstance(callback.settings, Budget)]
    budget = budgets[0] if budgets and not cfg.retrain_dense else None
    rounding = [callback for callback in callbacks if isinstance(callback, Int8Callback)]
    int8 = rounding[0] if rounding and not cfg.retrain_dense else None  # nothing is searched for in a dense baseline
    callbacks = [callback for callback in callbacks if not isinstance(callback, ShrinkCallback | Int8Callback)]
    rounds, how = (cfg.pruning.rounds, cfg.pruning.retrain) if cfg.pruning else (1, "continue")
    # pruning=budget brings a teacher along, which has nobody to teach where nothing is retrained.
    retrains = cfg.retrain_epochs or (int8 is not None and cfg.int8_retrain_epochs)
    distillation = cfg.distillation if retrains or not budgets else None
    recipe = recipe_of(cfg, how, distillation)
    first = recipe if int8 is None else replace(recipe, on_all=False)  # the search set decides what goes to int8
    lessons = Distillation(**options_of(distillation, "teacher", *MORE_TEXTS)) if distillation else None
    rows, train_rows, search_rows = rows_of(cfg)
    make_data, make_module = KINDS[task.kind]
    model, tokenizer = load_model(
        task, texts=texts_of(train_rows), max_length=cfg.data.max_length, **options_of(cfg.model, "learning_rate")
    )
    if cfg.trim_vocabulary:
        texts = [*texts_of(train_rows), *texts_of(search_rows), *corpus_of(cfg)]
        tokenizer = trim_vocabulary_(model, tokenizer, texts)
    options = options_of(cfg.data, "search_fraction", "max_search_samples", "max_train_samples")
    options |= more_texts(distillation, task, train_rows, [search_rows, *rows.dev.values()], cfg.seed)
    make_data = partial(make_data, train_rows, search_rows, seed=cfg.seed, **options)
    data = make_data(rows.dev, tokenizer)
    options = options_of(cfg.task, "name", "headline", "copies")
    module = make_module(model, task, data, learning_rate=cfg.model.learning_rate, **options)
    teacher = None
    shared = shared_directory(given)
    answers = None if shared is None else shared.parent / "answers"
    if lessons is not None and cfg.distillation.teacher == "self":
        teacher = Teacher(directory / "finetuned", task, lessons, answers=answers)
    elif lessons is not None:
        teacher = Teacher(Path(cfg.distillation.teacher), task, lessons, partial(make_data, {}), answers)
        teacher.check(model, tokenizer, texts_of(train_rows), cfg.data.max_length)
    if budget is not None:
        shrinking.check_can_shrink(model, budget, ratios=cfg.pruning.ratios or (), samples=len(search_rows))
    precision = precision_of(cfg)
    start = None
    if how == "rewind":
        start = StartingPoint.save(directory / "start.safetensors", module, layers_left(model))

    def make_trainer(stage: str, epochs: int) -> L.Trainer:
        own = {
            "precision": precision if epochs or stage == "teach" else measuring_precision(precision),
            "max_epochs": epochs,
            "logger": loggers_of(cfg.logger, stage, directory) if epochs else False,
        }
        trainer: L.Trainer = instantiate(cfg.trainer, **own, default_root_dir=str(directory))
        count_epochs_from_one_(trainer)
        return trainer

    progress.restore_(module)
    show_progress = bool(cfg.trainer.get("enable_progress_bar", True))
    make_loggers = partial(loggers_for, cfg.logger, directory)
    run = stages.Run(directory, module, data, tokenizer, make_trainer, progress, show_progress, make_loggers)
    tell = partial(milestones.tell, run, tells=cfg.report_stages)
    if cfg.sweep.halt:
        length = min(reporting.REPORT_LENGTH, cfg.data.max_length) if "latency" in returned_names(cfg) else None
        progress.on_stage = halting(run, progress.on_stage, length=length)
    baseline = fine_tune_once(run, cfg.finetune_epochs, shared)
    tell("fine-tuned")
    search, retraining = stages.search_and_cut(
        run,
        callbacks,
        rounds=rounds,
        recipe=first if budget is None else Recipe(0),
        start=start,
        teacher=teacher,
        dense=cfg.retrain_dense,
        max_length=cfg.data.max_length,
        tell=tell,
        what="searched and cut" if budget is None else "searched for hard attention",
    )
    points: list[Any] = []
    if budget is not None:
        data.train_on_all = first.on_all

        def retrain(stage: str) -> Any:
            tell(f"made smaller {stage.removeprefix('retrain')}".strip())
            return stages.retrain_model(run, stage, first, start, teacher)

        again = retrain if first.epochs else None
        points = shrinking.shrink_to_budget(run, budget, ratios=cfg.pruning.ratios or (), retrain=again)
        tell("retrained" if first.epochs else "made smaller")
        retraining = [point["retraining"] for point in points if "retraining" in point]
    if int8 is not None:
        epochs = cfg.int8_retrain_epochs
        own = replace(recipe, epochs=epochs, how="continue") if epochs else Recipe(0)
        options = {"start": None, "teacher": teacher, "dense": False, "max_length": cfg.data.max_length, "tell": tell}
        rounded, after = stages.search_and_cut(
            run, [int8], rounds=1, recipe=own, what="in int8", prefix="int8_", **options
        )
        retraining += after
    reporting.save_model(run)
    reporter = make_trainer("report", 0)
    metrics = {"baseline": baseline, "axformer": reporting.evaluate(run, reporter, rows.test)}
    judged = reporting.judged(run)
    if start is not None:
        start.path.unlink()
    others = {a: point["metrics"] for point in points if (a := point.get("artifact", "")).startswith("model-")}
    costs = reporting.costs(run, cfg.data.max_length, [*others])
    results = {
        "task": cfg.task.name,
        "model": given.model.pretrained or "tiny",
        "seed": cfg.seed,
        "device": device_name(reporter.strategy.root_device),
        "accepted": search["accepted"],
        "baseline": {"metrics": metrics["baseline"], **costs["finetuned"]},
        "axformer": {"metrics": metrics["axformer"], "search_metrics": judged, **costs["model"]},
        **({"models": {name: {"metrics": found, **costs[name]} for name, found in others.items()}} if others else {}),
        "search": search,
        "retraining": retraining,
        **({} if int8 is None else {"int8": rounded}),
        **({"stages": milestones.told(run)} if cfg.report_stages else {}),
        "plan": "plan.json",
        "artifact": "model",
    }
    reporting.save_results(run, results, [point["artifact"] for point in points if "artifact" in point])
    log_results(make_loggers("report"), results, directory / "plan.png")


store_groups()
register_plugins()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | tuple[float, ...] | None:
    """Run one configuration in Hydra's output directory, show what came of it, and return what sweepers go by."""
    # Four trainers and many loads per run: what they all repeat would bury what matters.
    for name in ("lightning.pytorch.utilities.rank_zero", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # fonts of formulas, which no picture has
    disable_progress_bar()
    keep_freed_memory()
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # lightning 2.6 on torch 2.13
    directory = Path(HydraConfig.get().runtime.output_dir)
    several = HydraConfig.get().mode == RunMode.MULTIRUN  # by a launcher that calls this function
    try:
        with sigterm_raises():
            results = train(job_configuration(cfg, directory) if several else cfg, directory)
    except (ValueError, OSError, DirectoryInUseError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1" or several:
            raise  # of several runs one that ends the process would take the others along
        sys.exit(f"{error}\n(HYDRA_FULL_ERROR=1 shows where this was raised.)")
    except Halted as halt:
        Console(markup=False, emoji=False).print(str(halt))
        return None
    except (KeyboardInterrupt, SystemExit) as error:
        signum = signal_of(error)
        if signum is None or (several and signum == signal.SIGINT):
            raise
        sys.stderr.write(f"Interrupted. The same command with {words_to_resume(directory)} goes on.\n")
        sys.exit(128 + signum)
    console = Console(markup=False, emoji=False)  # names of the user's are shown as they are
    console.print(results_table(results))
    if "stages" in results:
        console.print(stages_table(results["stages"]))
    console.print(plan_summary(Plan.load(directory / "plan.json")))
    console.print(
        f"Everything is in {directory}: report.html, results.json, plan.json, plan.png (what is left),"
        " finetuned/ and model/.",
        f"Next: {next_command(HydraConfig.get().overrides.task)}",
        sep="\n",
        soft_wrap=True,
    )
    return returned_value(cfg, results)


if __name__ == "__main__":
    main()
