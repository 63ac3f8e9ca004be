"""aiohttp before a tree: aiohttp_app.py ROOT PORT."""
import sys

from aiohttp import web

ROOT, PORT = sys.argv[1:]
served = 0


async def echo(request):
    await request.read()
    return web.Response(text="".join(f"{name}: {value}\n" for name, value in request.headers.items()))


async def count(request):
    return web.Response(text=str(served))


@web.middleware
async def counted(request, handler):
    global served
    answer = await handler(request)
    served += isinstance(answer, web.FileResponse) and str(answer._path) == ROOT + "/private/secret"
    return answer


app = web.Application(middlewares=[counted])
app.router.add_route("*", "/public/echo", echo)
app.router.add_route("*", "/private/echo", echo)
app.router.add_get("/public/served", count)
app.router.add_static("/", ROOT)
web.run_app(app, host="127.0.0.1", port=int(PORT), print=None, access_log=None)
