"""The kinds of drawings: each turns numbers into a :class:`towerkit.reporting.chart.Chart`."""

from __future__ import annotations

from towerkit.reporting.charts.heat import heat
from towerkit.reporting.charts.intervals import Row, intervals
from towerkit.reporting.charts.lines import Line, lines
from towerkit.reporting.charts.parallel import Scale, parallel
from towerkit.reporting.charts.scatter import Point, scatter

__all__ = ["Line", "Point", "Row", "Scale", "heat", "intervals", "lines", "parallel", "scatter"]
