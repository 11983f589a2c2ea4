"""The scorecard as a page: one self-contained HTML file per load, readable without a server."""

from batch_pipeline.report.index import index_path, write_index
from batch_pipeline.report.page import refresh_report, report_path, write_report

__all__ = ["index_path", "refresh_report", "report_path", "write_index", "write_report"]
