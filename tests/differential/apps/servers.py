"""Python's own http.server, Tornado and Twisted before a tree: servers.py WHICH ROOT PORT."""
import asyncio
import http.server
import sys

WHICH, ROOT, PORT = sys.argv[1], sys.argv[2], int(sys.argv[3])


def python_http():
    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *arguments):
            super().__init__(*arguments, directory=ROOT)

        def log_message(self, *arguments):
            pass

    http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()


def tornado_files():
    from tornado import web

    class Echo(web.RequestHandler):
        def get(self):
            for name, value in self.request.headers.get_all():
                self.write(f"{name}: {value}\n")

        post = put = options = get

    async def serve():
        web.Application([
            ("/(?:public|private)/echo", Echo), ("/(.*)", web.StaticFileHandler, {"path": ROOT})
        ], log_function=lambda _: None).listen(PORT, "127.0.0.1")
        await asyncio.Event().wait()

    asyncio.run(serve())


def twisted_files():
    from twisted.internet import reactor
    from twisted.web import resource, server, static

    class Echo(resource.Resource):
        isLeaf = True

        def render(self, request):
            fields = request.requestHeaders.getAllRawHeaders()
            return b"".join(name + b": " + value + b"\n" for name, values in fields for value in values)

    root = static.File(ROOT)
    for name in ("public", "private"):
        directory = static.File(f"{ROOT}/{name}")
        directory.putChild(b"echo", Echo())
        root.putChild(name.encode(), directory)
    reactor.listenTCP(PORT, server.Site(root), interface="127.0.0.1")
    reactor.run()


{"python-http": python_http, "tornado": tornado_files, "twisted": twisted_files}[WHICH]()
