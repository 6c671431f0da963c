"""What a run refuses of its configuration, before anything is read or trained."""

import math
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from axformer_lightning.basics import check_at_least, check_type
from axformer_lightning.budgets import TARGETS, Budget
from axformer_lightning.budgets.budget import TIMES
from axformer_lightning.report.naming import name_of_ratio
from axformer_lightning.runs.configured import corpus_of, returned_names
from axformer_lightning.runs.groups import callbacks_of
from axformer_lightning.runs.paths import from_where_it_was_given
from axformer_lightning.tasks import TASKS, check_noise, check_texts, teacher_for

LEAST = {
    "seed": 0,
    "finetune_epochs": 0,
    "retrain_epochs": 0,
    "int8_retrain_epochs": 0,
    "data.batch_size": 1,
    "data.max_length": 1,
    "data.max_search_samples": 1,
    "data.max_train_samples": 1,
    "data.doc_stride": 0,
    "task.n_best": 1,
    "task.max_answer_length": 1,
    "model.vocab_size": 1,
    "distillation.copies": 0,
    "pruning.rounds": 1,
}
ALL_IF_NONE = ("data.max_search_samples", "data.max_train_samples")
SWITCHES = (
    "resume",
    "predict_test",
    "trim_vocabulary",
    "retrain_dense",
    "retrain_on_all",
    "report_stages",
    "sweep.retry",
    "sweep.halt",
)
NUMBERS = ("data.search_fraction", "model.learning_rate")
NUMBERS_OR_NONE = ("retrain_learning_rate", "retrain_ema", "retrain_dropout")
KINDS: tuple[tuple[tuple[str, ...], Any], ...] = (
    (SWITCHES, bool),  # Hydra takes `no` and `off` for texts, which would count as true
    (NUMBERS, float),
    (NUMBERS_OR_NONE, float | None),
)
OTHER_WEIGHTS = ("16-true", "bf16-true", "64-true", "64")  # precisions in which weights are not float32
OVERRULED = {
    "max_epochs": "`finetune_epochs=` and `retrain_epochs=`",
    "logger": "`logger=`, for example `logger=none`",
    "default_root_dir": "`hydra.run.dir=`",
}


def check_configuration(cfg: DictConfig) -> None:
    """Refuse what could not work, or would be overruled without a word."""
    _check_values(cfg)
    for name, instead in OVERRULED.items():
        if name in cfg.trainer:
            raise ValueError(f"Expected `trainer.{name}` to be left to the stages of a run. Set {instead}.")
    if (devices := _num_devices(cfg)) > 1:
        raise ValueError(
            f"Expected one device, got {devices}: each would search, cut and save for itself. Set `trainer.devices=1`,"
            f" and give the others to jobs of a sweep (`-m sweep.jobs={devices}`); in a Trainer of your own the"
            " callbacks share a search among devices."
        )
    if OmegaConf.select(cfg, "distillation.copies") and TASKS[cfg.task.name].kind == "question_answering":
        raise ValueError(
            "Expected `distillation.copies=0` in question answering, where the answer is a place in a text, got"
            f" {cfg.distillation.copies}. Other words would stand in it."
        )
    given = from_where_it_was_given(cfg)
    texts = OmegaConf.select(given, "distillation.texts")
    if texts and cfg.distillation.hidden:
        raise ValueError(
            "Expected `distillation.hidden=0` with `distillation.texts`, whose labels are what the teacher has said"
            f" beforehand, got {cfg.distillation.hidden}. Leave out one of the two."
        )
    if texts:
        check_texts(str(texts), TASKS[cfg.task.name])
    if cfg.corpus and not cfg.trim_vocabulary:
        raise ValueError(
            "Expected `trim_vocabulary=true` with `corpus`, whose word pieces are to stay, got false: all of them stay."
            " Set it, or leave out `corpus`."
        )
    corpus_of(given)
    if cfg.int8 and not cfg.retrain_dense and str(cfg.trainer.precision) in OTHER_WEIGHTS:
        raise ValueError(
            "Expected `int8=none` where weights are not in float32, of which int8 is rounded, got"
            f" `trainer.precision={cfg.trainer.precision}`. Take `bf16-mixed`, or leave out one of the two."
        )
    _check_last_retraining(cfg)
    ratios = _checked_ratios(cfg)
    if ratios and (others := [name for name in TARGETS if cfg.pruning.get(name) is not None]):
        told = ", ".join(f"`pruning.{name}`" for name in others)
        raise ValueError(f"Expected `pruning.ratios` alone, which are targets of their own, got {told} as well.")
    if "ratios" in (cfg.pruning or ()) and cfg.pruning.rounds > 1 and not cfg.hard_attention:
        raise ValueError(
            f"Expected `pruning.rounds=1` with `pruning=budget`, got {cfg.pruning.rounds}: a run goes down to its"
            " budget once. Give several `pruning.ratios` for several models."
        )
    if "ratios" in (cfg.pruning or ()) and not cfg.retrain_dense:
        _check_budget(given)
    returned_names(cfg)  # which refuses what it does not know
    if cfg.distillation:
        _check_teacher(given)  # last, as it reads a model


def _check_values(cfg: DictConfig) -> None:
    """Refuse a value that is of another type than its setting, or too small."""
    for name, least in LEAST.items():
        value = OmegaConf.select(cfg, name, default=least)  # of a group that is switched off
        if value is not None or name not in ALL_IF_NONE:
            check_at_least(name, value, least)
    for names, kind in KINDS:
        for name in names:
            check_type(name, OmegaConf.select(cfg, name), kind)
    if cfg.task.name not in TASKS:
        raise ValueError(f"Expected `task.name` to be one of {[*TASKS]}, got {cfg.task.name!r}.")


def _check_last_retraining(cfg: DictConfig) -> None:
    """Refuse a last retraining that uses the search set where there is none, or none after the last search."""
    last = "int8_retrain_epochs" if cfg.int8 and not cfg.retrain_dense else "retrain_epochs"
    if cfg.retrain_on_all and not cfg[last]:
        why = ": by the search set it is decided what goes to int8" if last.startswith("int8") else ""
        raise ValueError(
            f"Expected `{last}` of at least 1 with `retrain_on_all=true`, which lets the last retraining use the search"
            f" set, got 0{why}. Set it, or `retrain_on_all=false`."
        )


def _checked_ratios(cfg: DictConfig) -> list[float] | None:
    """Return `pruning.ratios`, None without."""
    ratios: Any = OmegaConf.select(cfg, "pruning.ratios")
    ratios = OmegaConf.to_container(ratios, resolve=True) if OmegaConf.is_config(ratios) else ratios
    if ratios is None:
        return None
    if not ratios or not isinstance(ratios, list) or not all(map(_is_above_1, ratios)):
        raise ValueError(f"Expected `pruning.ratios` to be a list of numbers above 1, such as [2,3.2], got {ratios!r}.")
    if len({*map(name_of_ratio, ratios)}) < len({*ratios}):
        raise ValueError(
            f"Expected `pruning.ratios` that differ in their first six digits, by which models are named, got {ratios}."
            " Leave out those that are nearly the same."
        )
    return ratios


def _is_above_1(ratio: Any) -> bool:
    return type(ratio) in (int, float) and 1 < ratio < math.inf


def _check_teacher(cfg: DictConfig) -> None:
    """Refuse a teacher that cannot be read or knows another task; tokens and sizes are compared with the model's."""
    teacher, noise = (OmegaConf.select(cfg, f"distillation.{name}") for name in ("teacher", "noise"))
    if cfg.distillation.copies:
        check_noise("distillation.noise", noise, " Without copies: `distillation.copies=0`.")
    if teacher is None:
        raise ValueError(
            "Expected `distillation.teacher=DIR` with `distillation=directory`, a fine-tuned model and its tokenizer,"
            " got none. Give it, or take `distillation=self`."
        )
    if teacher != "self":
        teacher_for(TASKS[cfg.task.name], str(teacher), cfg.data.max_length)


def _num_devices(cfg: DictConfig) -> int:
    """Return how many devices a run would train on; what Lightning refuses is said in its own words."""
    try:
        return int(instantiate(cfg.trainer, logger=False).world_size)
    except InstantiationException as error:
        raise ValueError(str(error.__cause__ or error)) from error


def _check_budget(cfg: DictConfig) -> None:
    """Refuse a budget that this run has no means for: what refuses it otherwise comes after hours of fine-tuning."""
    for callback in callbacks_of(cfg):  # which refuse targets out of range
        if isinstance(callback.settings, Budget):
            _ = callback.settings.settings  # reads the latency table
    measured = [name for name in TIMES if cfg.pruning.get(name) is not None and cfg.pruning.latency_table is None]
    floor = cfg.pruning.get("metric_floor") is not None
    if measured and cfg.hard_attention:
        raise ValueError(
            f"Expected `hard_attention=none` with `pruning.{measured[0]}`, as times are measured of a model to which"
            " nothing was done yet. Leave out hard attention, or give a table: `pruning.latency_table=FILE`."
        )
    if floor and TASKS[cfg.task.name].kind == "question_answering":
        raise ValueError(
            "Expected a task with one prediction per sample with `pruning.metric_floor`, got"
            f" {cfg.task.name!r}. Ask for a size instead: `pruning.encoder_size_ratio=2`."
        )
