"""The scorecard as a page: one self-contained HTML file per load, readable without a server."""

from batch_pipeline.report.page import report_path, write_report

__all__ = ["report_path", "write_report"]
