"""The addresses of single Runs, of what is asked of them, and of a running service."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from towerkit.ensembles.late import LateFusion
from towerkit.models.answer import TaskPredictor
from towerkit.studio.asking import Find, Question, Strict, engine_of, found, picture_of
from towerkit.studio.frame import View
from towerkit.studio.opened import Opened
from towerkit.studio.pages.answers import answers_part
from towerkit.studio.pages.ask import ask_page
from towerkit.studio.pages.data import data_page
from towerkit.studio.pages.overview import overview_page
from towerkit.studio.pages.predict import predict_page, predictions_part
from towerkit.studio.pages.service import service_page, service_part
from towerkit.studio.pages.space import found_points, point_part, space_page
from towerkit.studio.pages.towers import towers_page
from towerkit.studio.predicting import Row, some_row
from towerkit.studio.service import Change, ServiceLink
from towerkit.studio.space import packed, space_of
from towerkit.studio.state import Show, Studio


def add_runs(app: FastAPI, studio: Studio, show: Show) -> None:
    """Pages of one Run."""

    @app.get("/runs/{name}")
    def overview(name: str) -> Response:
        return show.page(studio.with_run(name, overview_page))

    @app.get("/runs/{name}/towers")
    def towers(name: str) -> Response:
        return show.page(studio.with_run(name, lambda opened: towers_page(opened, studio.library.root)))

    @app.get("/runs/{name}/data")
    def data(name: str) -> Response:
        return show.page(studio.with_run(name, data_page))


class Place(Strict):
    """Which point."""

    place: int = Field(ge=0)


class Text(Strict):
    """A part of a name."""

    text: str = Field(max_length=200)


def add_maps(app: FastAPI, studio: Studio, show: Show) -> None:
    """Maps, their points, and what a point is."""

    @app.get("/runs/{name}/space")
    def space(name: str) -> Response:
        return show.page(studio.with_run(name, space_page))

    @app.get("/runs/{name}/space/{which}")
    def space_of_side(name: str, which: str) -> Response:
        return show.page(studio.with_run(name, lambda opened: space_page(opened, which)))

    @app.get("/runs/{name}/space/{which}/{column:path}")
    def space_by(name: str, which: str, column: str) -> Response:
        return show.page(studio.with_run(name, lambda opened: space_page(opened, which, column)))

    @app.get("/points/{name}/{which}/{column:path}")
    def points(name: str, which: str, column: str) -> Response:
        by = "" if column == "-" else column
        content = studio.with_run(name, lambda opened: packed(space_of(opened, which), by))
        return Response(content, media_type="application/octet-stream")

    @app.post("/point/{name}/{which}")
    def point(name: str, which: str, body: Place) -> Response:
        return show.part(studio.with_run(name, lambda opened: point_part(space_of(opened, which), body.place)))

    @app.post("/find-points/{name}/{which}")
    def find_points(name: str, which: str, body: Text) -> Response:
        told = studio.with_run(name, lambda opened: found_points(space_of(opened, which), body.text))
        return JSONResponse({"found": told})


def add_service(app: FastAPI, link: ServiceLink, show: Show) -> None:
    """A running service."""

    @app.get("/service")
    def service() -> Response:
        return show.page(service_page(link))

    @app.get("/live/service")
    def live_service() -> Response:
        return show.part(service_part(link))

    @app.post("/service/change")
    def change(body: Change) -> Response:
        return JSONResponse(dict(link.change(body)))


class Ask(Strict):
    """A question to a Run."""

    ranking: str = Field("", max_length=256)
    question: Question


class Wanted(Strict):
    """What a field that proposes keys has so far."""

    ranking: str = Field("", max_length=256)
    wanted: Find


class Number(Strict):
    """Which row."""

    number: int = Field(ge=0)


def add_tries(app: FastAPI, studio: Studio, show: Show) -> None:
    """Questions to models."""

    @app.get("/runs/{name}/try")
    def attempt(name: str) -> Response:
        return attempt_of(name, "")

    @app.get("/runs/{name}/try/{ranking}")
    def attempt_of(name: str, ranking: str) -> Response:
        entries = studio.library.entries()

        def made(opened: Opened) -> View:
            if isinstance(opened.run.model, TaskPredictor | LateFusion):
                return predict_page(opened)
            return ask_page(opened, ranking or next(iter(opened.run.rankings), ""), entries)

        return show.page(studio.with_run(name, made))

    @app.post("/ask/{name}")
    def ask(name: str, body: Ask) -> Response:
        return show.part(studio.with_run(name, lambda opened: answers_part(opened, body.ranking, body.question)))

    @app.post("/find/{name}")
    def find(name: str, body: Wanted) -> Response:
        told = studio.with_run(name, lambda opened: found(engine_of(opened, body.ranking), body.wanted))
        return JSONResponse({"found": told})

    @app.get("/picture/{name}/{ranking}/{side}/{row}")
    def picture(name: str, ranking: str, side: str, row: int) -> Response:
        of = "" if ranking == "-" else ranking
        content, kind = studio.with_run(name, lambda opened: picture_of(engine_of(opened, of), side, row))
        return Response(content, media_type=kind)

    @app.post("/predict/{name}")
    def predict(name: str, body: Row) -> Response:
        return show.part(studio.with_run(name, lambda opened: predictions_part(opened, body)))

    @app.post("/row/{name}")
    def row(name: str, body: Number) -> Response:
        return JSONResponse(studio.with_run(name, lambda opened: some_row(opened, body.number)))
