"""The command line. Every command takes ``--json`` for one object on standard output; progress goes to standard error."""

# In the order in which --help lists their commands.
from towerkit.cli import starting  # isort: skip
from towerkit.cli import training  # isort: skip
from towerkit.cli import realigning  # isort: skip
from towerkit.cli import tuning  # isort: skip
from towerkit.cli import measuring  # isort: skip
from towerkit.cli import ablating  # isort: skip
from towerkit.cli import crossvalidating  # isort: skip
from towerkit.cli import reporting  # isort: skip
from towerkit.cli import answering  # isort: skip
from towerkit.cli import looking  # isort: skip
from towerkit.cli import indexing  # isort: skip
from towerkit.cli import exporting  # isort: skip
from towerkit.cli import encoders  # isort: skip
from towerkit.cli import serving  # isort: skip
from towerkit.cli import browsing  # isort: skip
from towerkit.cli import features  # isort: skip
from towerkit.cli.app import app
from towerkit.cli.ending import main

__all__ = [
    "ablating",
    "answering",
    "app",
    "browsing",
    "crossvalidating",
    "encoders",
    "exporting",
    "features",
    "indexing",
    "looking",
    "main",
    "measuring",
    "realigning",
    "reporting",
    "serving",
    "starting",
    "training",
    "tuning",
]
