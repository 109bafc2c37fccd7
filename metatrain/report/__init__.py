"""Pages that are looked at: one run's, and several runs beside each other.

evaluated, writing -> figures, strips, tasks -> run
evaluated, writing -> contenders -> pairs, strips, tasks, validated -> comparison
"""

from metatrain.report.comparison import write_comparison
from metatrain.report.run import write_report

__all__ = ["write_comparison", "write_report"]
