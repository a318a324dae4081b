"""One HTML page about a training that a person can read, print or mail: it needs no network to open."""

from lamina.report.page import write_report

__all__ = ["write_report"]
