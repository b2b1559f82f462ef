"""A service like the original, behind nginx: Flask, which checks the token of each request and writes its JSON.

It has the day's documents and its users in memory, whereas the original queries a database twice per request. Its cost is
therefore a lower bound.
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
    """Refuses a request without a valid token."""
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
    """The same holodules for every day."""
    listed = [dict(document) for document in DAY["holodules"]]
    return flask.jsonify({"result": len(listed), "holodules": listed})
