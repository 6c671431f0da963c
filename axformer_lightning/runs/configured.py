"""What a run reads from its configuration, and how it keeps it."""

import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object, instantiate
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf, open_dict

from axformer_lightning.basics import bf16_pays, check_is_file, digest_of, number_of, write_atomically
from axformer_lightning.runs.paths import from_where_it_was_given
from axformer_lightning.runs.retraining import Recipe
from axformer_lightning.runs.sharing import fine_tuning_of
from axformer_lightning.runs.state import FAILED, read_state
from axformer_lightning.tasks import TASKS, Rows, at_most, load_rows, split_off, without_dev_rows

SHOWN_ONLY = {"resume", "logger", "returned", "sweep"}  # with these trainer options, what says nothing of the results
SHOWN_ONLY_BY_TRAINER = {"enable_progress_bar", "enable_model_summary"}
Better = Literal["maximize", "minimize"]
RETURNED: dict[str, Better] = {"headline": "maximize", "removed": "maximize", "latency": "minimize"}  # to a sweeper
DENSE_DIR = ".dense"  # in a sweep's directory


def configuration_of(cfg: DictConfig) -> dict[str, Any]:
    """Return everything that the results depend on."""
    parts = {str(name): part for name, part in cfg.items() if name not in SHOWN_ONLY}
    plain: dict[str, Any] = {
        name: OmegaConf.to_container(part, resolve=True) if OmegaConf.is_config(part) else part
        for name, part in parts.items()
    }
    for option in SHOWN_ONLY_BY_TRAINER:
        plain["trainer"].pop(option, None)
    return plain


def digest_of_configuration(values: Mapping[str, Any]) -> str:
    """Return a name for a configuration, the same in every process.

    Example:
        >>> digest_of_configuration({"seed": 0}), digest_of_configuration({"seed": 1})
        ('6e52f5501048', '868fe66b97e5')
    """
    return digest_of([json.dumps(values, sort_keys=True, default=str).encode()]).hex()[:12]


def run_name(*, _root_: DictConfig) -> str:
    """Return the name of a job's directory in a sweep: a digest of everything that its results depend on."""
    return digest_of_configuration(
        configuration_of(OmegaConf.masked_copy(_root_, [str(k) for k in _root_ if k != "hydra"]))
    )


OmegaConf.register_new_resolver("run_name", run_name, replace=True)


def shared_directory(cfg: DictConfig) -> Path | None:
    """Return where runs that train alike share their fine-tuned model, None where they do not."""
    folder = from_where_it_was_given(cfg).sweep.dense_dir
    return None if folder is None else Path(folder) / digest_of_configuration(fine_tuning_of(configuration_of(cfg)))


def job_configuration(cfg: DictConfig, directory: Path) -> DictConfig:
    """Return the configuration of a job of a sweep: it goes on where it was killed, and shares its dense model.

    Raises:
        RuntimeError: if it failed before and is not to be tried again.
    """
    before = read_state(directory)
    if before is not None and before.state == FAILED and not cfg.sweep.retry:
        raise RuntimeError(f"This job has failed before: {before.reason} Set sweep.retry=true to try it again.")
    job = cfg.copy()
    with open_dict(job):
        job.resume = True
        job.sweep.dense_dir = cfg.sweep.dense_dir or str(directory.parent / DENSE_DIR)
    return job


def keep_configuration(cfg: DictConfig, directory: Path) -> None:
    """Write `.hydra/` as Hydra does by itself, which would do so before the directory can be refused."""
    if HydraConfig.initialized():
        hydra_cfg = HydraConfig.get()
        folder = directory / ".hydra"
        folder.mkdir(exist_ok=True)
        for name, part in (("config", cfg), ("hydra", {"hydra": hydra_cfg}), ("overrides", hydra_cfg.overrides.task)):
            write_atomically(folder / f"{name}.yaml", OmegaConf.to_yaml(OmegaConf.create(part)))


def options_of(group: DictConfig, *left_out: str) -> dict[str, Any]:
    """Return the arguments that a group holds for what is made from it."""
    options: Any = OmegaConf.to_container(group, resolve=True)
    return {name: value for name, value in options.items() if name not in left_out}


def recipe_of(cfg: DictConfig, how: str, distillation: DictConfig | None) -> Recipe:
    """Return how a run trains a model once more after each cut.

    Dropout and a low rate keep a model from learning its samples by heart. Where a teacher also answers reworded copies
    of them, or other texts, neither is needed, and both cost accuracy (docs/distillation.md).

    Args:
        cfg: of the run.
        how: ``"continue"`` or ``"rewind"``.
        distillation: of the teacher, None without.
    """
    rate, dropout = cfg.retrain_learning_rate, cfg.retrain_dropout
    if distillation and (distillation.copies or distillation.texts):
        rate = 2 * cfg.model.learning_rate if rate is None else rate
        dropout = 0.0 if dropout is None else dropout
    later = cfg.int8 and not cfg.retrain_dense and cfg.int8_retrain_epochs  # it may teach then alone
    return Recipe(
        cfg.retrain_epochs,
        how=how,
        on_all=cfg.retrain_on_all,
        learning_rate=rate,
        ema=cfg.retrain_ema,
        keep=cfg.retrain_keep,
        headline=cfg.task.headline,
        taught=bool(distillation) and (cfg.retrain_epochs > 0 or not later),
        dropout=dropout,
    )


def precision_of(cfg: DictConfig) -> Any:
    """Return the precision of training: mixed bfloat16 is used where a probe says that it is faster on this device."""
    asked = cfg.trainer.precision
    if asked != "bf16-mixed":
        return asked
    device = instantiate(cfg.trainer, logger=False).strategy.root_device
    return asked if bf16_pays(device, trains=True) else "32-true"


def measuring_precision(training: Any) -> Any:
    """Return the precision in which a model is measured: without autocast, as whoever loads it runs it.

    Example:
        >>> measuring_precision("bf16-mixed"), measuring_precision("16-true")
        ('32-true', '16-true')
    """
    return "32-true" if str(training).endswith("-mixed") else training


def loggers_of(cfg: Any, stage: str, directory: Path) -> Any:
    """Return the logger of a stage, or all of several: with the place and the name that their constructors take."""
    if not cfg:
        return False
    if "_target_" not in cfg:
        return [loggers_of(one, stage, directory) for one in cfg.values() if one]
    takes = inspect.signature(get_object(cfg["_target_"])).parameters
    local = (
        "id" not in takes and "name" in takes
    )  # others take the version for the id of a run, which has to be its own
    own = f"{directory.name}_{stage}"
    place = directory
    if "tracking_uri" in takes:  # MLflow, whose newer versions write files only where they are allowed to
        place = directory / "mlruns"
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    given = {"save_dir": str(place), "version": stage if local else own, "run_name": own}
    return instantiate(cfg, **{name: value for name, value in given.items() if name in takes and cfg.get(name) is None})


def loggers_for(cfg: Any, directory: Path, stage: str) -> Sequence[Logger]:
    """Return the loggers of a stage as a sequence, empty where there are none."""
    made = loggers_of(cfg, stage, directory)
    return made if isinstance(made, list) else [made] if made else []


def returned_names(cfg: DictConfig) -> list[str]:
    """Return the names of what a sweeper gets.

    Raises:
        ValueError: unless there is one at least, and each is known.
    """
    given = cfg.get("returned", "headline")
    names = list(given) if OmegaConf.is_list(given) else [given]
    unknown = sorted(str(name) for name in names if name not in RETURNED)
    if unknown or not names:
        raise ValueError(f"Expected `returned` to name some of {', '.join(RETURNED)}, got {unknown or 'none'}.")
    return names


def returned_value(cfg: DictConfig, results: Mapping[str, Any]) -> float | tuple[float, ...]:
    """Return what a sweeper goes by, each as :data:`RETURNED` says; of a run that has halted, as it stood then.

    The headline is that of the search set, as what chooses may not be what reports; of a run that trained on the search
    set it is that of dev.
    """
    dense, cut = results["baseline"], results["axformer"]
    found: dict[str, Callable[[], float]] = {
        "headline": lambda: number_of((cut.get("search_metrics") or cut["metrics"])[cfg.task.headline]),
        "removed": lambda: 1 - cut["encoder_parameters"] / dense["encoder_parameters"],
        "latency": lambda: float(cut["latency_ms"]["batch1"]),
    }
    values = tuple(found[name]() for name in returned_names(cfg))
    return values[0] if len(values) == 1 else values


def corpus_of(cfg: DictConfig) -> list[str]:
    """Return the lines of `corpus`, none without.

    Raises:
        FileNotFoundError: if it is no file.
        ValueError: if it is not in UTF-8.
    """
    if not cfg.corpus:
        return []
    path = Path(str(cfg.corpus))
    check_is_file("corpus", path, "texts, one per line")
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Expected `corpus` in UTF-8, got other bytes in {str(path)!r}: {error}. Save the file as UTF-8."
        ) from error


def rows_of(cfg: DictConfig) -> tuple[Rows, Dataset, Dataset]:
    """Return the rows of a run's task, and of its training set what trains, and what decides."""
    rows = load_rows(cfg.task.name, cfg.data_dir and str(cfg.data_dir), with_test=cfg.predict_test)
    train, search = split_off(rows.train, float(cfg.data.search_fraction), cfg.seed, TASKS[cfg.task.name].apart)
    search = without_dev_rows(search, rows.dev)
    search, train = (
        at_most(part, cfg.data[name], cfg.seed, f"data.{name}")
        for part, name in ((search, "max_search_samples"), (train, "max_train_samples"))
    )
    return rows, train, search
