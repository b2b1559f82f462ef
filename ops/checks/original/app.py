"""A stand-in for the original service, with the libraries that it used.

For the comparison only: existing clients were written for the responses of those libraries (tokens, refusals, the form of JSON).
Reads the original's environment variables (MONGODB_USER, MONGODB_PASSWORD, MONGODB_HOST, JWT_SECRET_KEY), prints its port, and
serves until its standard input is closed.
"""

import collections
import collections.abc
import datetime
import logging
import os
import sys
import threading

# PyJWT 1.4 imports it from where it was until Python 3.9.
collections.Mapping = collections.abc.Mapping

from flask import Flask, abort, jsonify  # noqa: E402
from flask_jwt import JWT, jwt_required  # noqa: E402
from pymongo import MongoClient  # noqa: E402
from werkzeug.serving import WSGIRequestHandler, make_server  # noqa: E402

SHOWN = ("key", "code", "video_id", "datetime", "name", "title", "url", "description")


class User:
    def __init__(self, username):
        self.id = username


def build(database, secret):
    app = Flask(__name__)
    app.config["SECRET_KEY"] = secret
    app.config["JSON_SORT_KEYS"] = False
    app.config["JWT_LEEWAY"] = datetime.timedelta(0)
    # With its default path and its default scheme JWT.
    app.config["JWT_AUTH_URL_RULE"] = "/auth"

    def authenticate(username, password):
        user = database.users.find_one({"username": username})
        return User(username) if user and user["password"] == password else None

    def identity(payload):
        name = payload.get("identity")
        return database.users.find_one({"username": name}) if isinstance(name, str) and name else None

    JWT(app, authenticate, identity)

    @app.errorhandler(404)
    def not_found(_error):
        return jsonify({"error": "Not found"}), 404

    @app.errorhandler(405)
    def not_allowed(error):
        return jsonify({"error": "Method Not Allowed"}), 405, [("Allow", ", ".join(sorted(error.valid_methods)))]

    @app.route("/holodules/<day>")
    @app.route("/Holodules/<day>")
    @jwt_required()
    def holodules(day):
        found = database.holodules.find({"datetime": {"$regex": f"^{day}"}}).sort("datetime", -1)
        listed = [{name: document[name] for name in SHOWN if name in document} for document in found]
        if not listed:
            abort(404)
        return jsonify({"result": len(listed), "holodules": listed})

    return app


def main():
    host = os.environ["MONGODB_HOST"]
    client = MongoClient(
        f"mongodb://{host}/",
        username=os.environ["MONGODB_USER"],
        password=os.environ["MONGODB_PASSWORD"],
        authSource="holoduledb",
    )
    logging.disable(logging.ERROR)  # Flask-JWT logs every refusal
    WSGIRequestHandler.log = lambda *_: None
    server = make_server("127.0.0.1", 0, build(client.holoduledb, os.environ["JWT_SECRET_KEY"]), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
