"""Pages: the report of one run, and the comparison of several.

evaluated, formatting -> charts, run_figures, task_panels, task_choice -> run
evaluated, formatting -> compared_runs -> pairs, task_panels, validation_curves -> comparison
"""

from metatrain.report.comparison import write_comparison
from metatrain.report.run import write_report

__all__ = ["write_comparison", "write_report"]
