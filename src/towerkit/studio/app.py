"""The studio as an application: its files, who may see it, the lists, and how a page that cannot be made is told."""

from __future__ import annotations

import time

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from towerkit.core.errors import TowerkitError, redacted
from towerkit.reporting.markup import element, foreign
from towerkit.serving.guard import App
from towerkit.serving.problems import Problem, problem_of_validation
from towerkit.serving.settings import Limits, Settings
from towerkit.studio import trainings
from towerkit.studio.assets import assets, edition, kind_of
from towerkit.studio.door import SIGN_IN, Door, Sessions, cookie, session_of
from towerkit.studio.frame import View, document
from towerkit.studio.opened import Missing
from towerkit.studio.pages.compare import MOST, compare_page
from towerkit.studio.pages.runs import runs_page, trainings_part
from towerkit.studio.pages.sign_in import SignIn, sign_in_page
from towerkit.studio.pages.training import training_page, training_part
from towerkit.studio.routes import add_maps, add_runs, add_service, add_tries
from towerkit.studio.state import Show, Studio

LIMITS = Limits(body_bytes=12_000_000, drain_s=2)
"""A picture that is tried out comes as text in JSON, and no page is worth a long wait at the end."""
_GUESS_S = 0.5
"""Whoever shows a wrong token waits so long."""


def make_studio(studio: Studio, settings: Settings) -> App:
    """The studio as an ASGI application.

    Args:
        studio: What it shows.
        settings: Whom it trusts.
    """
    sessions = Sessions(settings.token)
    show = Show(account=sessions.is_needed, service=studio.service is not None)
    app = FastAPI(title="towerkit studio", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.studio = studio
    _add_problems(app, show, str(studio.library.root))
    _add_files(app)
    _add_session(app, sessions)
    _add_lists(app, studio, show)
    add_runs(app, studio, show)
    add_tries(app, studio, show)
    add_maps(app, studio, show)
    if studio.service is not None:
        add_service(app, studio.service, show)
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


def _add_lists(app: FastAPI, studio: Studio, show: Show) -> None:
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


def _add_problems(app: FastAPI, show: Show, root: str) -> None:
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
