"""HAND OVER: a cut model as a file that other engines run."""

from axformer_lightning.exporting.export import export_model, read_exported
from axformer_lightning.exporting.formats import FORMATS, Exported, Format
from axformer_lightning.exporting.notes import Notes

__all__ = ["FORMATS", "Exported", "Format", "Notes", "export_model", "read_exported"]
