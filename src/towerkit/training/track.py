"""Trackers: the figures of a training to TensorBoard files or an MLflow store, while it goes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from towerkit.core.optional import optional_import
from towerkit.core.spec import Spec
from towerkit.training.progress import Progress, Silent, Step


def _stepwise(text: str) -> str:
    """A name that every tracker takes: ``member text: train`` becomes ``member_text/train``."""
    return text.replace(": ", "/").replace(", ", "/").replace(" ", "_").replace("@", "_at_")


def _figures(record: Mapping[str, Any], stage: str) -> dict[str, float]:
    """The finite numbers of an epoch by name."""
    found = {name: value for name, value in record.items() if isinstance(value, int | float) and name != "epoch"}
    return {_stepwise(f"{stage}/{name}"): float(value) for name, value in found.items() if math.isfinite(value)}


class TensorBoard(Silent):
    """Writes event files that ``tensorboard --logdir`` shows.

    Args:
        folder: Where; of a resumed training, the same one.

    Raises:
        MissingExtraError: If TensorBoard is not installed.
    """

    def __init__(self, folder: str) -> None:
        optional_import("tensorboard", extra="track")
        self.writer: Any = optional_import("torch.utils.tensorboard", extra="track").SummaryWriter(folder)

    def step(self, step: Step) -> None:
        """Loss and step size."""
        self.writer.add_scalar(_stepwise(f"{step.stage}/step/loss"), step.loss, step.number)
        self.writer.add_scalar(_stepwise(f"{step.stage}/step/lr"), step.rate, step.number)

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        """Every figure of the epoch; flushed, so that a page shows it at once."""
        for name, value in _figures(record, stage).items():
            self.writer.add_scalar(name, value, record["epoch"])
        self.writer.flush()

    def end(self, record: Mapping[str, float]) -> None:
        """The figures of the held-out part."""
        for name, value in _figures(record, "held_out").items():
            self.writer.add_scalar(name, value, 0)
        self.writer.close()


class Mlflow(Silent):
    """Logs to an MLflow run; a resumed training begins another one that holds all its epochs.

    Args:
        experiment: Its name in MLflow.
        uri: Of the tracking server or store; MLflow's own setting when not given.
        spec: The whole spec in plain data, logged with the run.

    Raises:
        MissingExtraError: If MLflow is not installed.
    """

    def __init__(self, experiment: str, uri: str | None, spec: Mapping[str, Any]) -> None:
        mlflow: Any = optional_import("mlflow", extra="track")
        self.client = mlflow.MlflowClient(
            tracking_uri=uri
        )  # a client of our own: the module's functions are global state
        known = self.client.get_experiment_by_name(experiment)
        place = self.client.create_experiment(experiment) if known is None else known.experiment_id
        self.run_id = self.client.create_run(place).info.run_id
        self.client.log_param(self.run_id, "model", spec["model"]["kind"])
        self.client.log_dict(self.run_id, dict(spec), "spec.json")

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        """Every figure of the epoch."""
        for name, value in _figures(record, stage).items():
            self.client.log_metric(self.run_id, name, value, step=record["epoch"])

    def end(self, record: Mapping[str, float]) -> None:
        """The figures of the held-out part."""
        for name, value in _figures(record, "held_out").items():
            self.client.log_metric(self.run_id, name, value)
        self.client.set_terminated(self.run_id)


class TensorBoardSpec(Spec):
    """Event files for TensorBoard; needs the extra ``track``."""

    kind: Literal["tensorboard"] = "tensorboard"
    folder: str
    """Relative to where the command runs."""

    def build(self, spec: Mapping[str, Any]) -> Progress:
        """The tracker."""
        return TensorBoard(self.folder)


class MlflowSpec(Spec):
    """An MLflow run; needs the extra ``track``."""

    kind: Literal["mlflow"] = "mlflow"
    experiment: str = Field("towerkit", min_length=1)
    uri: str | None = None

    def build(self, spec: Mapping[str, Any]) -> Progress:
        """The tracker."""
        return Mlflow(self.experiment, self.uri, spec)


AnyTrackSpec = Annotated[TensorBoardSpec | MlflowSpec, Field(discriminator="kind")]
"""The menu of trackers."""
