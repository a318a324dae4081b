"""One HTML page about a training that a person can read, print or mail: it needs no network to open."""

from lamina.report.page import run_of, write_report

__all__ = ["run_of", "write_report"]
