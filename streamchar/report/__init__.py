"""Reports: what happened to an exposure, as a self-contained HTML page, and an index of many."""

from streamchar.report.index import write_index
from streamchar.report.page import report, write_report
from streamchar.report.subject import Entry, Subject

__all__ = ["Entry", "Subject", "report", "write_index", "write_report"]
