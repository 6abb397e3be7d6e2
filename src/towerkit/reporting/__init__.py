"""Reports: one or several Runs as one page of HTML that needs no network, no script and no other file."""

from __future__ import annotations

from towerkit.reporting.write import Report, write_report

__all__ = ["Report", "write_report"]
