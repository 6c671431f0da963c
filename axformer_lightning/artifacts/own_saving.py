"""A cut model saved by whatever a user saves with is an artifact, too.

`save_pretrained` of transformers knows of no plan: `from_pretrained` would fill what was removed with random weights
and attend softly. Everything else that saves a model goes through it (`push_to_hub`, `Trainer.save_model`, pipelines,
sentence-transformers). So it is extended for models that are cut; others are saved as ever.
"""

import functools
import os
from typing import Any

from transformers import PreTrainedModel

from axformer_lightning.anatomy import layers_left
from axformer_lightning.artifacts.files import (
    WEIGHTS_FILE,
    check_has_no_adapter,
    check_is_cut_whole,
    complete_artifact,
    is_written_here,
    staged,
)
from axformer_lightning.int8 import check_can_be_int8, int8_modules, pack
from axformer_lightning.surgery import KEY, is_as_it_was_built

plain_save = PreTrainedModel.save_pretrained


@functools.wraps(plain_save)
def save(
    self: PreTrainedModel,
    save_directory: str | os.PathLike[str],
    is_main_process: bool = True,
    *args: Any,
    **kwargs: Any,
) -> None:
    """Save a model as transformers does, and make an artifact of it if it is cut."""
    check_is_cut_whole(self)
    if is_as_it_was_built(self):
        plain_save(self, save_directory, is_main_process, *args, **kwargs)
        return
    check_has_no_adapter(self)
    if kwargs.get("push_to_hub") or len(args) > 1:
        raise ValueError(
            "Expected to save a cut model to a directory alone, got further arguments. Push it afterwards with"
            " `model.push_to_hub(repo_id)`."
        )
    state = args[0] if args else kwargs.pop("state_dict", None)
    weights = {name: value for name, value in (self.state_dict() if state is None else state).items() if name != KEY}
    check_can_be_int8(self, layers_left(self))
    packed = pack(weights, int8_modules(self, layers_left(self)))
    if not (is_main_process and is_written_here()):
        plain_save(self, save_directory, False, state_dict=packed, **kwargs)
        return
    with staged(save_directory) as staging:
        plain_save(self, staging, state_dict=packed, **kwargs)
        if not (staging / WEIGHTS_FILE).is_file():
            raise ValueError(
                f"Expected a cut model to be saved as one file {WEIGHTS_FILE!r}, got several or another name in"
                f" {os.fspath(save_directory)!r}. Leave out `max_shard_size` and `variant`."
            )
        complete_artifact(self, staging)


def extend_saving() -> None:
    """Let cut models be saved as artifacts by their own `save_pretrained`."""
    PreTrainedModel.save_pretrained = save  # type: ignore[method-assign]
