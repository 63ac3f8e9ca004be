"""Starlette's StaticFiles before a tree: `starlette_app:app` with ROOT in the environment."""
import os

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

ROOT = os.environ["ROOT"]
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
served = 0


class Counted(StaticFiles):
    def file_response(self, full_path, *arguments, **more):
        global served
        served += str(full_path) == ROOT + "/private/secret"
        return super().file_response(full_path, *arguments, **more)


async def echo(request):
    await request.body()
    return PlainTextResponse("".join(f"{name}: {value}\n" for name, value in request.headers.items()))


async def count(request):
    return PlainTextResponse(str(served))


app = Starlette(routes=[
    Route("/public/echo", echo, methods=METHODS), Route("/private/echo", echo, methods=METHODS), Route("/public/served", count),
    Mount("/", Counted(directory=ROOT)),
])
