"""Django's own server and `static.serve` before a tree: django_app.py ROOT PORT."""
import os
import sys

from django.conf import settings
from django.core.servers import basehttp
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import re_path
from django.views.decorators.csrf import csrf_exempt
from django.views.static import serve

ROOT, PORT = sys.argv[1:]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", DEBUG=False, LOGGING_CONFIG=None)
served = 0


@csrf_exempt
def echo(request, _):
    request.body
    fields = (item for item in request.META.items() if item[0][:5] == "HTTP_")
    return HttpResponse("".join(f"{name[5:].replace('_', '-')}: {value}\n" for name, value in fields))


def count(request):
    return HttpResponse(str(served))


def file(request, path):
    global served
    answer = serve(request, path, document_root=ROOT)
    served += answer["Content-Length"] == str(os.path.getsize(ROOT + "/private/secret"))
    return answer


urlpatterns = [re_path("^(public|private)/echo$", echo), re_path("^public/served$", count), re_path("^(?P<path>.*)$", file)]
basehttp.run("127.0.0.1", int(PORT), get_wsgi_application(), threading=True)
