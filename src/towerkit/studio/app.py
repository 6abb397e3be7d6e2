"""The addresses of the studio. What a page shows is made in ``pages``; here it is asked for, and told when it cannot be made."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import Field
from starlette.exceptions import HTTPException

from towerkit.core.errors import TowerkitError, redacted
from towerkit.ensembles.late import LateFusion
from towerkit.models.answer import TaskPredictor
from towerkit.reporting.markup import Markup, element, foreign
from towerkit.serving.guard import App
from towerkit.serving.problems import Problem, problem_of_validation
from towerkit.serving.settings import Limits, Settings
from towerkit.studio import trainings
from towerkit.studio.asking import Find, Question, Strict, engine_of, found, picture_of
from towerkit.studio.assets import assets, edition, kind_of
from towerkit.studio.door import SIGN_IN, Door, Sessions, cookie, session_of
from towerkit.studio.frame import View, document
from towerkit.studio.library import Library
from towerkit.studio.opened import Missing, Opened, Shelf
from towerkit.studio.pages.ask import answers_part, ask_page
from towerkit.studio.pages.compare import MOST, compare_page
from towerkit.studio.pages.data import data_page
from towerkit.studio.pages.overview import overview_page
from towerkit.studio.pages.predict import predict_page, predictions_part
from towerkit.studio.pages.runs import runs_page, trainings_part
from towerkit.studio.pages.service import service_page, service_part
from towerkit.studio.pages.sign_in import SignIn, sign_in_page
from towerkit.studio.pages.space import found_points, point_part, space_page
from towerkit.studio.pages.towers import towers_page
from towerkit.studio.pages.training import training_page, training_part
from towerkit.studio.predicting import Row, some_row
from towerkit.studio.service import Change, ServiceLink
from towerkit.studio.space import packed, space_of
from towerkit.studio.trainings import Training, training_of

T = TypeVar("T")
LIMITS = Limits(body_bytes=12_000_000)
"""A picture that is tried out comes as text in JSON."""
_GUESS_S = 0.5
"""Whoever shows a wrong token waits so long."""


class Studio:
    """What the pages are made of.

    Args:
        root: The folder of Runs.
        base: The folder that relative paths of the Runs' data start from.
        service: A running service that has a page of its own; None shows none.
    """

    def __init__(self, root: Path, base: Path, service: ServiceLink | None = None) -> None:
        self.library = Library(root)
        self.service = service
        self.shelf = Shelf(self.library, base)

    def with_run(self, name: str, make: Callable[[Opened], T]) -> T:
        """What a function makes of a Run; one at a time."""
        with self.shelf.lock:
            return make(self.shelf.open(name))

    def with_runs(self, names: list[str], make: Callable[[list[Opened]], T]) -> T:
        """What a function makes of several Runs; one at a time."""
        with self.shelf.lock:
            return make([self.shelf.open(name) for name in names])

    def trainings(self) -> list[Training]:
        """Those that are not over, the running ones first."""
        found = [training_of(name, folder) for name, folder in sorted(self.library.checkpoints().items())]
        return sorted(found, key=lambda each: each.process is None)

    def training(self, name: str) -> Training:
        """One of them.

        Raises:
            Missing: If there is none: it may have written its Run.
        """
        folder = self.library.checkpoints().get(name)
        if folder is None:
            raise Missing(f"There is no training of {name.replace('~', '/')}; it may be over.")
        return training_of(name, folder)


class _Show:
    """How pages are told."""

    def __init__(self, *, account: bool, service: bool) -> None:
        self.account, self.service = account, service

    def page(self, view: View, status: int = 200) -> HTMLResponse:
        """A whole page."""
        return HTMLResponse(document(view, service=self.service, account=self.account), status)

    def part(self, markup: Markup) -> JSONResponse:
        """A piece that a module of ours puts into its page."""
        return JSONResponse({"html": markup})


def make_studio(studio: Studio, settings: Settings) -> App:
    """The studio as an ASGI application.

    Args:
        studio: What it shows.
        settings: Whom it trusts.
    """
    sessions = Sessions(settings.token)
    show = _Show(account=sessions.is_needed, service=studio.service is not None)
    app = FastAPI(title="towerkit studio", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.studio = studio
    _add_problems(app, show, str(studio.library.root))
    _add_files(app)
    _add_session(app, sessions)
    _add_lists(app, studio, show)
    _add_runs(app, studio, show)
    _add_tries(app, studio, show)
    _add_maps(app, studio, show)
    if studio.service is not None:
        _add_service(app, studio.service, show)
    return Door(app, settings, sessions)


def _add_files(app: FastAPI) -> None:
    @app.get("/static/{of}/{name}")
    def file(of: str, name: str) -> Response:
        if of != edition() or name not in assets():
            raise Missing("There is no such file; load the page again.")
        return Response(assets()[name], media_type=kind_of(name))


def _add_session(app: FastAPI, sessions: Sessions) -> None:
    @app.get(SIGN_IN)
    def sign_in() -> Response:
        return HTMLResponse(document(sign_in_page()))

    @app.post(SIGN_IN)
    def begin(body: SignIn) -> Response:
        session = sessions.begin(body.token)
        if session is None:
            time.sleep(_GUESS_S)
            raise Problem(401, "The token is the one that the studio was started with.", "another one", "Try again.")
        return JSONResponse({"to": "/"}, headers={"Set-Cookie": cookie(session)})

    @app.post("/sign-out")
    def end(request: Request) -> Response:
        sessions.end(session_of(request.scope["headers"]))
        return JSONResponse({"to": SIGN_IN}, headers={"Set-Cookie": cookie("")})


def _add_lists(app: FastAPI, studio: Studio, show: _Show) -> None:
    def listed(metric: str = "") -> HTMLResponse:
        folder = studio.library.root.resolve().name
        return show.page(runs_page(studio.library.entries(), studio.trainings(), folder, metric))

    @app.get("/")
    def runs() -> Response:
        return listed()

    @app.get("/by/{metric:path}")
    def runs_by(metric: str) -> Response:
        return listed(metric)

    @app.get("/live/trainings")
    def live() -> Response:
        return show.part(trainings_part(studio.trainings()))

    @app.get("/training/{name}")
    def training(name: str) -> Response:
        return show.page(training_page(studio.training(name)))

    @app.get("/live/training/{name}")
    def live_training(name: str) -> Response:
        return show.part(training_part(studio.training(name)))

    @app.post("/training/{name}/stop")
    def stop(name: str) -> Response:
        trainings.stop(studio.training(name))
        return JSONResponse({"told": "Asked to stop; its state will be on the disk."})

    @app.get("/compare/{names:path}")
    def compare(names: str) -> Response:
        chosen = list(dict.fromkeys(names.split("/")))
        if not 2 <= len(chosen) <= MOST:
            raise Missing(f"Two to {MOST} Runs are compared; received {len(chosen)}.")
        return show.page(studio.with_runs(chosen, compare_page))


def _add_runs(app: FastAPI, studio: Studio, show: _Show) -> None:
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


def _add_maps(app: FastAPI, studio: Studio, show: _Show) -> None:
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


def _add_service(app: FastAPI, link: ServiceLink, show: _Show) -> None:
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


def _add_tries(app: FastAPI, studio: Studio, show: _Show) -> None:
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


def _add_problems(app: FastAPI, show: _Show, root: str) -> None:
    """A page for who reads, an object for our modules; Runs are called by their names, not by where they are."""

    def told(request: Request, status: int, problem: Problem) -> Response:
        if request.method == "GET" and not request.url.path.startswith("/live/"):
            words = [problem.rule, f"Received: {problem.received}" if problem.received else "", problem.next_step]
            body = element("div", {"class": "problem"}, *(element("p", {}, foreign(each)) for each in words if each))
            return show.page(View("This page cannot be shown", body), status)
        return JSONResponse(problem.content(), status)

    def of_library(request: Request, error: Exception) -> Response:
        return told(request, 422, Problem(422, redacted(str(error)).replace(f"{root}/", "")))

    def of_address(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        words = str(error) if isinstance(error, Missing) else "There is no such page."
        return told(request, status, Problem(status, words, "", "The list of Runs is at /."))

    def of_body(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return told(request, 422, problem_of_validation(error.errors()))

    def of_request(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return told(request, error.status, error)

    app.add_exception_handler(TowerkitError, of_library)
    app.add_exception_handler(Missing, of_address)
    app.add_exception_handler(HTTPException, of_address)
    app.add_exception_handler(RequestValidationError, of_body)
    app.add_exception_handler(Problem, of_request)
