"""The scorecard as a page: one self-contained HTML file per load, readable without a server."""

from batch_pipeline.report.page import refresh_report, report_path, write_report

__all__ = ["refresh_report", "report_path", "write_report"]
