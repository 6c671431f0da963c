"""SHOW: tables, pictures and progress, for people to read."""

from axformer_lightning.report.pareto import draw_pareto
from axformer_lightning.report.picture import draw_plan
from axformer_lightning.report.progress import SearchProgress
from axformer_lightning.report.table import plan_summary, results_table, stages_table

__all__ = ["SearchProgress", "draw_pareto", "draw_plan", "plan_summary", "results_table", "stages_table"]
