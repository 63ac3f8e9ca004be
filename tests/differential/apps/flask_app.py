"""Flask before a tree: flask_app.py ROOT PORT, or `flask_app:app` with ROOT in the environment for gunicorn."""
import os
import sys

from flask import Flask, request, send_from_directory

ROOT = os.environ.get("ROOT") or sys.argv[1]
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
app = Flask(__name__, static_folder=None)
served = 0


@app.route("/public/echo", methods=METHODS)
@app.route("/private/echo", methods=METHODS)
def echo():
    request.get_data()
    return "".join(f"{name[5:].replace('_', '-')}: {value}\n" for name, value in request.environ.items() if name[:5] == "HTTP_")


@app.route("/public/served")
def count():
    return str(served)


@app.route("/<path:name>")
def file(name):
    global served
    answer = send_from_directory(ROOT, name)
    served += answer.content_length == os.path.getsize(ROOT + "/private/secret")
    return answer


if __name__ == "__main__":
    app.run("127.0.0.1", int(sys.argv[2]), threaded=True)
