"""The kinds of drawings: each turns numbers into a :class:`towerkit.reporting.chart.Chart`."""

from __future__ import annotations

from towerkit.reporting.charts.heat_map import heat
from towerkit.reporting.charts.interval_rows import Row, intervals
from towerkit.reporting.charts.line_chart import Line, lines
from towerkit.reporting.charts.parallel_scales import Scale, parallel
from towerkit.reporting.charts.point_cloud import Point, scatter

__all__ = ["Line", "Point", "Row", "Scale", "heat", "intervals", "lines", "parallel", "scatter"]
