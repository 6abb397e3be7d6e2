"""The first look: what a data file or the data of a spec holds before anyone trains on it, or whether a Run is sound."""

from towerkit.doctor.examination import examine
from towerkit.doctor.report import show_findings

__all__ = ["examine", "show_findings"]
