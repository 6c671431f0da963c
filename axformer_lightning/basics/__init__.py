"""Small tools over torch and files; imports nothing of ours."""

from axformer_lightning.basics.checking import check_at_least, check_is_file, check_type, check_types
from axformer_lightning.basics.files import digest_of, replacing, write_atomically, write_json
from axformer_lightning.basics.logs import errors_only
from axformer_lightning.basics.mappings import flattened, number_of
from axformer_lightning.basics.marks import MARKS
from axformer_lightning.basics.modules import copied, dropping, eval_mode, find_adapter, first_tensor, replaced
from axformer_lightning.basics.precision import bf16_pays
from axformer_lightning.basics.untouched import untouched

__all__ = [
    "MARKS",
    "bf16_pays",
    "check_at_least",
    "check_is_file",
    "check_type",
    "check_types",
    "copied",
    "digest_of",
    "dropping",
    "errors_only",
    "eval_mode",
    "find_adapter",
    "first_tensor",
    "flattened",
    "number_of",
    "replaced",
    "replacing",
    "untouched",
    "write_atomically",
    "write_json",
]
