"""A FastAPI application whose one route does nothing, on the same server and with the same settings as ``towerkit serve``.

It says where it listens, as a line of JSON.
"""

from __future__ import annotations

import json

import uvicorn
from fastapi import FastAPI

from towerkit.serving.server import Server, config_of
from towerkit.serving.settings import Settings

app = FastAPI()


@app.get("/empty")
async def empty() -> dict[str, str]:
    """Nothing."""
    return {}


def main() -> None:
    """Serve until the process is told to stop."""
    config: uvicorn.Config = config_of(app, Settings(port=0))
    Server(config, lambda address: print(json.dumps({"listening": address}), flush=True)).run()


if __name__ == "__main__":
    main()
