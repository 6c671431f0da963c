"""What a fit keeps from its start to its last round."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import lightning as L
from transformers import PreTrainedModel

from axformer_lightning.anatomy import find_transformer, layers_left
from axformer_lightning.callbacks.sharing import ranks_of
from axformer_lightning.plan import plan_of
from axformer_lightning.search.journal import own_path
from axformer_lightning.training import StartingPoint, check_references, copies_of

STARTS_KEY = "axformer_starts"  # of a checkpoint: where its fit began, by the model's name


@dataclass
class Fit:
    """What a fit keeps.

    Args:
        start: where to rewind to, or None to keep the weights.
        copies: of the transformer, as :func:`~axformer_lightning.training.copies_of` finds them.
        journals: those that were written.
        resumed: where the fit began that this one resumes, as its checkpoint holds it.
    """

    start: StartingPoint | None = None
    copies: Mapping[PreTrainedModel, list[float]] = field(default_factory=dict)
    journals: list[Path] = field(default_factory=list)
    resumed: Mapping[str, Any] | None = None

    @classmethod
    def resuming(cls, checkpoint: Mapping[str, Any], model: str | None) -> "Fit":
        """Return what is known of a fit before it goes on from a checkpoint.

        Args:
            checkpoint: of Lightning.
            model: dotted attribute path of the transformer, where there are several.
        """
        return cls(resumed=checkpoint.get(STARTS_KEY, {}).get(model or ""))

    def keep_start(self, checkpoint: dict[str, Any], transformer: PreTrainedModel, model: str | None) -> None:
        """Put where the fit began into a checkpoint, if there is to be rewound.

        Args:
            checkpoint: of Lightning.
            transformer: what is cut.
            model: as of :meth:`resuming`.
        """
        if self.start is not None:
            checkpoint.setdefault(STARTS_KEY, {})[model or ""] = self.start.kept_in_checkpoint(transformer)

    def end(self, *, keeps_journals: bool = False) -> None:
        """Remove the files, or all but the journals, by which a fit that broke off goes on."""
        if not keeps_journals:
            remove_journals(self.journals)
        if self.start is not None:
            self.start.path.unlink(missing_ok=True)


def begin_fit(
    trainer: L.Trainer,
    pl_module: L.LightningModule,
    transformer: PreTrainedModel,
    model: str | None,
    *,
    rewinds: bool,
    resumed: Mapping[str, Any] | None = None,
) -> Fit:
    """Refuse what could not follow a cut, and note down where the fit begins.

    Args:
        trainer: at the start of training.
        pl_module: holds the transformer.
        transformer: what will be cut.
        model: dotted attribute path of the transformer, where there are several.
        rewinds: whether the weights are written, to rewind to.
        resumed: as of :class:`Fit`.

    Raises:
        ValueError: as :func:`~axformer_lightning.training.check_references`.
    """
    check_references(trainer, pl_module, transformer)
    start = starting_point(trainer, pl_module, model, resumed) if rewinds else None
    return Fit(start, copies_of(trainer, pl_module, transformer))


def starting_point(
    trainer: L.Trainer, pl_module: L.LightningModule, model: str | None, resumed: Mapping[str, Any] | None = None
) -> StartingPoint:
    """Save where the fit begins, beside its logs, to rewind to; the file has a name of its own.

    Args:
        trainer: holds the optimizers and schedulers.
        pl_module: holds the transformer.
        model: dotted attribute path of the transformer, where there are several.
        resumed: as of :class:`Fit`; that is then where it begins.
    """
    token: str = trainer.strategy.broadcast(uuid4().hex)
    path = Path(trainer.log_dir or trainer.default_root_dir) / f"axformer_start_{model or 'model'}_{token}.safetensors"
    if resumed is not None:
        start = StartingPoint.from_checkpoint(path, resumed, token=token, writes=trainer.is_global_zero)
    else:
        transformer = find_transformer(pl_module, model)
        start = StartingPoint.save(
            path,
            pl_module,
            layers_left(transformer),
            trainer.optimizers,
            [config.scheduler for config in trainer.lr_scheduler_configs],
            token=token,
            writes=trainer.is_global_zero,
            repaired=plan_of(transformer).repaired,
        )
    trainer.strategy.barrier()  # nobody reads what is not written yet
    return start


def search_journal(trainer: L.Trainer, name: str, written: list[Path]) -> Callable[[str], Path]:
    """Return what says where a search is taken down, so that it goes on when a killed fit is resumed.

    Its name holds the fingerprint of the search: another job in the same directory has another one, and the same fit,
    resumed, the same. Not beside the logs, whose directory is another one in every process. A round leaves its journal
    behind, as the fit may be killed before a checkpoint holds the cut; the next round or the end of the fit removes it.

    Args:
        trainer: gives the directory.
        name: of the transformer in its module.
        written: the journals that this fit has written.
    """

    def path(fingerprint: str) -> Path:
        remove_journals(written)
        journal = Path(trainer.default_root_dir) / f"axformer_search_{name or 'model'}_{fingerprint[:16]}.jsonl"
        written.append(own_path(journal, ranks_of(trainer)))
        return journal

    return path


def remove_journals(written: list[Path]) -> None:
    """Remove the journals that a fit has written, and forget them."""
    for journal in written:
        with suppress(OSError):
            journal.unlink(missing_ok=True)
    written.clear()
