"""Sends the same requests to the original service and to this one, on the same MongoDB.

These are the requests to which both respond alike. Deliberate differences are listed in the README under "Differences from the
original", and tested in gateway/tests and backend/tests.
"""

import base64
import hmac
import json
import secrets
import time
import unittest

from original.service import mongodb, running_original, settings, users
from support import CREDENTIALS, enter, running_stack

SECRET = secrets.token_urlsafe(48)
# A day on which all streams start at different times: the original leaves the order of others to MongoDB.
DAY = "20201206"
JSON_TYPE = ("Content-Type", "application/json")


# ---- tokens, encoded here so that invalid ones are possible ----------------------------------------


def encode(part):
    return base64.urlsafe_b64encode(part if isinstance(part, bytes) else json.dumps(part).encode()).rstrip(b"=").decode()


def token(header=None, claims=None, secret=SECRET, hash_name="sha256"):
    head = encode({"typ": "JWT", "alg": "HS256"} if header is None else header)
    signed = f"{head}.{encode(claims_now() if claims is None else claims)}"
    return f"{signed}.{encode(hmac.new(secret.encode(), signed.encode(), hash_name).digest())}"


def claims_now(without=(), **changed):
    now = int(time.time())
    claims = {"exp": now + 300, "iat": now, "nbf": now, "identity": "user01", **changed}
    return {name: value for name, value in claims.items() if name not in without}


def decode(text):
    return [json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in text.split(".")[:2]]


class Alike(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.url = enter(cls.addClassCleanup, mongodb())
        given = settings(cls.url, SECRET)
        # Stored passwords are left unchanged, because the original must read them.
        stack = enter(cls.addClassCleanup, running_stack(PASSWORD_UPGRADE="false", **given))
        cls.ours, cls.original = stack.client(), enter(cls.addClassCleanup, running_original(given))
        cls.token = cls.ours.login()

    def ask(self, method, path, headers=(), body=None):
        """Both responses."""
        return self.ours.send(method, path, body, headers), self.original.send(method, path, body, headers)

    def alike(self, method, path, headers=(), body=None):
        """Sends a request to both, compares what clients can depend on, and returns our response."""
        ours, original = self.ask(method, path, headers, body)
        self.assertEqual(ours.status, original.status)
        self.assertEqual(ours.headers["Content-Type"], original.headers["Content-Type"])
        for challenge in original.headers.get_all("WWW-Authenticate", []):
            self.assertIn(challenge, ours.headers.get_all("WWW-Authenticate", []))
        if method != "HEAD":
            self.assertEqual(self.known(ours.json()), self.known(original.json()))
            compact = {"separators": (",", ":"), "ensure_ascii": False}
            self.assertEqual(ours.body.decode(), json.dumps(json.loads(ours.body), **compact) + "\n")
        return ours

    def known(self, pairs):
        """A body without its free text, which is a parser's message."""
        return [(name, value.partition(": ")[0] if name == "description" else value) for name, value in pairs]

    # -- login

    def test_logins(self):
        name, password = CREDENTIALS["username"], CREDENTIALS["password"]
        refused = {
            "wrong password": {"username": name, "password": "wrong"},
            "unknown user": {"username": "user99", "password": password},
            "another spelling": {"username": name.upper(), "password": password},
            "no password": {"username": name},
            "no username": {"password": password},
            "empty password": {"username": name, "password": ""},
            "empty username": {"username": "", "password": password},
            "null password": {"username": name, "password": None},
            "null username": {"username": None, "password": password},
            "an empty object": {},
            "an extra field": {**CREDENTIALS, "more": "1"},
        }
        for case, body in refused.items():
            with self.subTest(case):
                answer = self.alike("POST", "/auth", [JSON_TYPE], json.dumps(body).encode())
                self.assertEqual(answer.status, 401)

    def test_a_login_gives_the_same_kind_of_token(self):
        for content_type in ("application/json", "application/json; charset=utf-8"):
            for user in (CREDENTIALS, {"username": "ユーザー 02", "password": "パスワード"}):
                with self.subTest(f"{content_type} {user['username']}"):
                    body = json.dumps(user).encode()
                    ours, original = self.ask("POST", "/auth", [("Content-Type", content_type)], body)
                    self.assertEqual((ours.status, original.status), (200, 200))
                    self.assertEqual(ours.headers["Content-Type"], original.headers["Content-Type"])
                    made = [json.loads(answer.body) for answer in (ours, original)]
                    self.assertEqual([list(answer) for answer in made], [["access_token"]] * 2)
                    (our_header, our_claims), (header, claims) = (decode(answer["access_token"]) for answer in made)
                    self.assertEqual(our_header, header)
                    self.assertEqual(our_claims.keys() - {"jti"}, claims.keys())
                    self.assertEqual(our_claims["identity"], claims["identity"])
                    for each in (our_claims, claims):
                        self.assertEqual((each["exp"] - each["iat"], each["nbf"] - each["iat"]), (300, 0))
                        self.assertTrue(all(type(each[name]) is int for name in ("exp", "iat", "nbf")))

    def test_each_accepts_the_others_tokens(self):
        for maker in (self.ours, self.original):
            made = maker.login()
            self.assertEqual(self.alike("GET", f"/holodules/{DAY}", [("Authorization", f"JWT {made}")]).status, 200)

    def test_logins_leave_the_stored_passwords_as_they_are(self):
        self.ours.login()
        self.original.login()
        self.assertEqual([user["password"] for user in users(self.url)], [CREDENTIALS["password"], "パスワード"])

    def test_a_login_takes_no_other_method(self):
        for method in ("GET", "PUT", "DELETE"):
            ours, original = self.ask(method, "/auth")
            self.assertEqual((ours.status, original.status), (405, 405))
            self.assertIn("POST", original.headers["Allow"])
            self.assertEqual(ours.headers["Allow"], "POST")

    # -- the header

    def test_authorization_headers(self):
        good = self.token
        cases = {
            "absent": [],
            "empty": [("Authorization", "")],
            "another scheme": [("Authorization", "Basic dXNlcjpwYXNz")],
            "a bare token": [("Authorization", good)],
            "the scheme alone": [("Authorization", "JWT")],
            "the scheme and a space": [("Authorization", "JWT ")],
            "two tokens": [("Authorization", f"JWT {good} {good}")],
            "in a cookie": [("Cookie", f"access_token={good}")],
        }
        for case, headers in cases.items():
            with self.subTest(case):
                self.assertEqual(self.alike("GET", f"/holodules/{DAY}", headers).status, 401)
        with self.subTest("in the query"):
            self.assertEqual(self.alike("GET", f"/holodules/{DAY}?access_token={good}").status, 401)
        for case in ("JWT  {}", "jwt {}", "JWT\t{}", "JWT {} "):
            with self.subTest(case):
                self.assertEqual(self.alike("GET", f"/holodules/{DAY}", [("Authorization", case.format(good))]).status, 200)

    # -- the token

    def test_refused_tokens(self):
        head, payload, signature = token().split(".")
        now = int(time.time())
        cases = {
            "no segments": "abc",
            "two segments": f"{head}.{payload}",
            "a header that is not base64url": f"a.{payload}.{signature}",
            "a header that is not JSON": f"{encode(b'{typ')}.{payload}.{signature}",
            "a header that is not an object": f"{encode([])}.{payload}.{signature}",
            "a payload that is not base64url": f"{head}.a.{signature}",
            "four segments": f"{head}.{payload}.{signature}.{signature}",
            "a signature that is not base64url": f"{head}.{payload}.a",
            "no alg": token(header={"typ": "JWT"}),
            "alg none": token(header={"typ": "JWT", "alg": "none"}),
            "another alg": token(header={"typ": "JWT", "alg": "HS512"}, hash_name="sha512"),
            "no such alg": token(header={"typ": "JWT", "alg": "XX256"}),
            "another secret": token(secret="x" * 40),
            "no signature": f"{head}.{payload}.",
            "another secret, and expired": token(secret="x" * 40, claims=claims_now(exp=now - 10)),
            "a payload that is not JSON": token(claims=b"{exp"),
            "a payload that is not an object": token(claims=[]),
            "expired": token(claims=claims_now(exp=now - 10)),
            "issued in the future": token(claims=claims_now(iat=now + 100)),
            "not valid yet": token(claims=claims_now(nbf=now + 100)),
            "an exp that is not a number": token(claims=claims_now(exp="soon")),
            "an iat that is not a number": token(claims=claims_now(iat="soon")),
            "an nbf that is not a number": token(claims=claims_now(nbf="soon")),
            "no identity": token(claims=claims_now(without=["identity"])),
            "an empty identity": token(claims=claims_now(identity="")),
            "an identity that is not a string": token(claims=claims_now(identity=1)),
            "no exp, no iat, no nbf": token(claims=claims_now(without=["exp", "iat", "nbf"])),
            "no iat, no nbf": token(claims=claims_now(without=["iat", "nbf"])),
        }
        for name in ("exp", "iat", "nbf"):
            cases[f"no {name}"] = token(claims=claims_now(without=[name]))
            cases[f"{name} null"] = token(claims=claims_now(**{name: None}))
        for case, refused in cases.items():
            with self.subTest(case):
                answer = self.alike("GET", f"/holodules/{DAY}", [("Authorization", f"JWT {refused}")])
                self.assertEqual(answer.status, 401)

    # -- the holodules

    def test_every_day_of_the_sample(self):
        days = [f"202012{day:02}" for day in range(1, 32)] + ["20210101", "20210102", "20201130"]
        counts = {}
        for day in days:
            with self.subTest(day):
                headers = [("Authorization", f"JWT {self.token}")]
                ours, original = self.ask("GET", f"/holodules/{day}", headers)
                self.assertEqual(ours.status, original.status)
                if ours.status == 404:
                    self.alike("GET", f"/holodules/{day}", headers)
                    continue
                self.assertEqual(ours.headers["Content-Type"], original.headers["Content-Type"])
                mine, theirs = dict(ours.json()), dict(original.json())
                self.assertEqual(list(mine), list(theirs))
                counts[day] = mine["result"]
                self.assertEqual(mine["result"], theirs["result"])
                # Newest first in both. Ours orders equal times by key; MongoDB does not define their order.
                listed = [dict(one) for one in mine["holodules"]]
                by_key = sorted((dict(one) for one in theirs["holodules"]), key=lambda one: one["key"])
                self.assertEqual(listed, sorted(by_key, key=lambda one: one["datetime"], reverse=True))
                fields = {one["key"]: list(one) for one in by_key}
                self.assertEqual({one["key"]: list(one) for one in listed}, fields)
        self.assertEqual(sum(counts.values()), 587 + 2)
        self.assertEqual(counts["20201209"], 17)
        self.assertNotIn("20201213", counts)

    def test_the_other_spelling_and_head(self):
        headers = [("Authorization", f"JWT {self.token}")]
        self.assertEqual(self.alike("GET", f"/Holodules/{DAY}", headers).status, 200)
        for path in (f"/holodules/{DAY}", f"/Holodules/{DAY}", "/holodules/20201213"):
            with self.subTest(path):
                self.assertEqual(self.alike("HEAD", path, headers).body, b"")

    def test_other_paths_and_methods_with_a_token(self):
        headers = [("Authorization", f"JWT {self.token}")]
        for path in ("/", "/holodules/", f"/holodules/{DAY}/more", "/users", "/favicon.ico"):
            with self.subTest(path):
                self.assertEqual(self.alike("GET", path, headers).status, 404)
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            with self.subTest(method):
                ours = self.alike(method, f"/holodules/{DAY}", headers)
                self.assertEqual((ours.status, ours.headers["Allow"]), (405, "GET, HEAD"))
