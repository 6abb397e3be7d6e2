"""The calls of the service: nothing is computed here, each hands its body on and waits."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from towerkit.serving import answers, requests
from towerkit.serving.problems import Problem
from towerkit.serving.service import Service, client_of, json_answer
from towerkit.serving.sources import folder_of


def add_questions(app: FastAPI, service: Service) -> None:
    """What models answer."""

    @app.post("/v1/recommend", response_model=answers.Recommended)
    async def recommend(body: requests.Recommend) -> Response:
        return await service.recommend(body)

    @app.post("/v1/similar", response_model=answers.Likened)
    async def similar(body: requests.Similar) -> Response:
        return await service.ask(body, "similar")

    @app.post("/v1/score", response_model=answers.Scored)
    async def score(body: requests.Score) -> Response:
        return await service.ask(body, "score")

    @app.post("/v1/predict", response_model=answers.Predicted)
    async def predict(body: requests.Predict) -> Response:
        return await service.ask(body, "predict")

    @app.post("/v1/embed", response_model=answers.Embedded)
    async def embed(body: requests.Embed) -> Response:
        return await service.ask(body, "embed")


def add_changes(app: FastAPI, service: Service) -> None:
    """What changes models, their candidates, or what is known of queries."""

    @app.post("/v1/events", response_model=answers.Kept)
    async def events(body: requests.Events) -> Response:
        return await service.events(body)

    @app.post("/v1/items", response_model=answers.Taken)
    async def items(body: requests.Items) -> Response:
        return await service.items(body)

    @app.delete("/v1/items/{key:path}", response_model=answers.Taken)
    async def remove(key: requests.Text) -> Response:
        return await service.remove(None, key)

    @app.delete("/v1/models/{name}/items/{key:path}", response_model=answers.Taken)
    async def remove_from(name: requests.ModelName, key: requests.Text) -> Response:
        return await service.remove(name, key)

    @app.delete("/v1/users/{query:path}", response_model=answers.Forgotten)
    async def forget(query: requests.Text) -> Response:
        return await service.forget(query)

    @app.post("/v1/models/{name}:swap", response_model=answers.Swapped)
    async def swap(name: requests.ModelName, body: requests.Swap, request: Request) -> Response:
        service.check_admin(request)
        client = client_of(request)
        try:
            folder = folder_of(service.settings.candidates, body.candidate)
            told = await service.swap(name, folder, body.shadow)
        except Problem as problem:
            service.audit(
                "swap refused",
                model=name,
                candidate=body.candidate,
                client=client,
                why=problem.rule,
                received=problem.received,
            )
            raise
        service.audit("swap", candidate=body.candidate, client=client, **told)
        return json_answer(told)

    @app.post("/v1/models/{name}:rollback", response_model=answers.Swapped)
    async def rollback(name: requests.ModelName, request: Request) -> Response:
        service.check_admin(request)
        client = client_of(request)
        try:
            told = await service.back(name)
        except Problem as problem:
            service.audit("rollback refused", model=name, client=client, why=problem.rule, received=problem.received)
            raise
        service.audit("rollback", client=client, **told)
        return json_answer(told)


def add_looks(app: FastAPI, service: Service) -> None:
    """What the service tells of itself."""

    @app.get("/v1/models", response_model=answers.Models)
    async def models() -> Response:
        service.check_ready()
        return json_answer({"models": service.fleet.describe()})

    @app.get("/health/live", response_model=answers.Health)
    async def live() -> Response:
        service.check_alive()
        return json_answer({"status": "alive"})

    @app.get("/health/ready", response_model=answers.Health)
    async def ready() -> Response:
        service.check_ready()
        return json_answer({"status": "ready"})

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        return Response(service.meters.page(), media_type="text/plain; version=0.0.4; charset=utf-8")
