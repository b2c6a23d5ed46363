"""What a run tells: event files, plots, and the report at the end."""

from tf_elastic.monitor.center_evaluator import CenterEvaluator
from tf_elastic.monitor.curvature import largest_curvature
from tf_elastic.monitor.plot import plot_history
from tf_elastic.monitor.run_clock import RunClock
from tf_elastic.monitor.run_report import RunTimes
from tf_elastic.monitor.run_report import build_report
from tf_elastic.monitor.run_report import format_report
from tf_elastic.monitor.run_report import write_report

__all__ = [
    "CenterEvaluator",
    "RunClock",
    "RunTimes",
    "build_report",
    "format_report",
    "largest_curvature",
    "plot_history",
    "write_report",
]
