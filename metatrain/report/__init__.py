"""Pages that are looked at: one run's, and several runs beside each other.

evaluated, tasks, strips, writing -> run
"""

from metatrain.report.run import write_report

__all__ = ["write_report"]
