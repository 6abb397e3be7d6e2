"""The estimators of scikit-learn that a late fusion knows: fitted by it, stored as plain arrays, answered by NumPy."""

from typing import Annotated

from pydantic import Field

from towerkit.ensembles.estimators.base import Estimator, EstimatorSpec, Goal
from towerkit.ensembles.estimators.bayes import NaiveBayesSpec
from towerkit.ensembles.estimators.linear import LogisticRegressionSpec, RidgeSpec
from towerkit.ensembles.estimators.neighbors import KNNSpec
from towerkit.ensembles.estimators.svm import SVMSpec
from towerkit.ensembles.estimators.trees import ExtraTreesSpec, HistGradientBoostingSpec, RandomForestSpec

AnyEstimatorSpec = Annotated[
    LogisticRegressionSpec
    | RidgeSpec
    | RandomForestSpec
    | ExtraTreesSpec
    | HistGradientBoostingSpec
    | KNNSpec
    | SVMSpec
    | NaiveBayesSpec,
    Field(discriminator="kind"),
]
"""The menu of estimators."""

__all__ = [
    "AnyEstimatorSpec",
    "Estimator",
    "EstimatorSpec",
    "ExtraTreesSpec",
    "Goal",
    "HistGradientBoostingSpec",
    "KNNSpec",
    "LogisticRegressionSpec",
    "NaiveBayesSpec",
    "RandomForestSpec",
    "RidgeSpec",
    "SVMSpec",
]
