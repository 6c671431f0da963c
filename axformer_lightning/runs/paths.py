"""The paths of a configuration: texts, from where the command was given, also where Hydra changes the directory."""

from pathlib import Path

from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf

# What a run reads, and what it shares with others. What loggers write stays where their own settings put it.
PATHS = ("data_dir", "corpus", "distillation.teacher", "distillation.texts", "pruning.latency_table", "sweep.dense_dir")
OR_HUB_ID = "model.pretrained"
NO_PATHS = {"distillation.teacher": "self"}


def from_where_it_was_given(cfg: DictConfig) -> DictConfig:
    """Return a configuration with paths that are texts, and absolute where Hydra has changed the directory.

    Hydra reads the name of a directory that looks like a number, such as a date, as one. Runs are told apart by the
    configuration as it was given, so this is for those who read the files.

    Args:
        cfg: of the run.

    Example:
        >>> cfg = OmegaConf.create({"data_dir": 20240601, "model": {"pretrained": None}})
        >>> from_where_it_was_given(cfg)  # no Hydra, no other directory
        {'data_dir': '20240601', 'model': {'pretrained': None}}
    """
    moved = Path(to_absolute_path(".")).resolve() != Path.cwd().resolve()
    found = cfg.copy()
    for name in (*PATHS, OR_HUB_ID):
        given = OmegaConf.select(cfg, name)
        if given is None or given == NO_PATHS.get(name):
            continue
        path = to_absolute_path(str(given))
        OmegaConf.update(found, name, path if moved and (name != OR_HUB_ID or Path(path).exists()) else str(given))
    return found
