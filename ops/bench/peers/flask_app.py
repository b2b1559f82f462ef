"""The original's kind of service, behind nginx: Flask, which checks the token of each request and writes its JSON.

It has the day's documents and its users in memory, where the original asks a database twice a request:
what it costs is the least that such a service can.
"""

import json
import os
from pathlib import Path

import flask
import jwt

DAY = json.loads(Path(os.environ["BENCH_BODY"]).read_text(encoding="utf-8"))
SECRET = os.environ["BENCH_SECRET"]
USERS = {"user01"}

app = flask.Flask(__name__)
app.json.ensure_ascii = False
app.json.sort_keys = False


@app.before_request
def check():
    """Ends a request that has no good token."""
    scheme, _, token = flask.request.headers.get("Authorization", "").partition(" ")
    try:
        if scheme != "Bearer":
            raise jwt.InvalidTokenError
        claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"require": ["exp", "iat", "nbf"]})
        if claims.get("identity") not in USERS:
            raise jwt.InvalidTokenError
    except jwt.InvalidTokenError:
        flask.abort(401)


@app.get("/holodules/<day>")
def holodules(day):
    """The day's holodules, whichever day it is."""
    listed = [dict(document) for document in DAY["holodules"]]
    return flask.jsonify({"result": len(listed), "holodules": listed})
