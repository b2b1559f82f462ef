"""Calendar feeds of a running stack, read by two Python packages that parse iCalendar (RFC 5545)."""

import datetime
import gzip
import http.client
import json
import re
import sys
import time
import unittest
import urllib.parse
import zoneinfo
from contextlib import closing

from support import CREDENTIALS, ROOT, enter, record, running_stack

# Installed by ops/test.
sys.path.insert(0, str(ROOT / "target/tools"))
# If this machine has it, the parser of ics lets it replace the standard output with every calendar, until a write recurses
# too deeply. Without it, the parser works without colours.
sys.modules["colorama"] = None

import ics  # noqa: E402
from icalendar import Calendar  # noqa: E402

JAPAN = zoneinfo.ZoneInfo("Asia/Tokyo")
SECONDS = 30
KEY = re.compile(r"[0-9a-f]{64}")


def start(days, hour=21):
    """A time in Japan, some days from today."""
    today = datetime.datetime.now(JAPAN).replace(hour=hour, minute=30, second=0, microsecond=0)
    return today + datetime.timedelta(days=days)


def holodule(video_id, days, name, **fields):
    """A holodule, some days from today."""
    stored = {"key": "", "video_id": video_id, "datetime": f"{start(days):%Y%m%d %H%M%S}", "name": name, "title": "title"}
    return {**stored, "url": f"https://www.youtube.com/watch?v={video_id}", **fields}


class Feeds(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = enter(cls.addClassCleanup, running_stack(LOG_LEVEL="debug"))
        cls.client = cls.stack.client()
        cls.admin_address = cls.stack.addresses()["admin"]
        cls.token = cls.client.login()

    def admin(self, method, path, body=None):
        """The status of a request to the admin listener."""
        with closing(http.client.HTTPConnection(self.admin_address, timeout=SECONDS)) as connection:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            return connection.getresponse().status

    def store(self, entry):
        self.assertIn(self.admin("PUT", f"/holodules/{entry['video_id']}", entry), (200, 201))

    def call(self, method, path, body=None, token=None):
        headers = [("Authorization", f"Bearer {token or self.token}")]
        if body is not None:
            headers.append(("Content-Type", "application/json"))
        return self.client.send(method, path, None if body is None else json.dumps(body).encode(), headers)

    def create(self, token=None, **request):
        """A new feed."""
        created = self.call("POST", "/calendar", request, token)
        self.assertEqual(created.status, 201, created.body)
        feed = json.loads(created.body)
        self.assertEqual(created.headers["Location"], f"/calendar/{feed['id']}")
        self.assertEqual(feed["path"], f"/calendar/{feed['key']}.ics")
        self.assertTrue(KEY.fullmatch(feed["key"]))
        self.addCleanup(self.call, "DELETE", f"/calendar/{feed['id']}", token=token)
        return feed

    def fetch(self, feed, method="GET", **headers):
        """The response without a token."""
        fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return self.client.send(method, feed["path"], headers=fields)

    def read(self, feed):
        """The calendar, and its events by UID, after both packages have parsed it."""
        answer = self.fetch(feed)
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(answer.headers["Content-Type"], "text/calendar; charset=utf-8")
        calendar = Calendar.from_ical(answer.body)
        events = {str(event["UID"]): event for event in calendar.walk("VEVENT")}
        self.assertEqual([error for event in events.values() for error in event.errors], [])
        other = {event.uid: event for event in ics.Calendar(answer.body.decode()).events}
        errors = sum(len(event.errors) for event in events.values())
        record("icalendar", events=len(events), errors=errors)
        self.assertEqual(other.keys(), events.keys())
        for uid, event in events.items():
            self.assertEqual(other[uid].begin.datetime, event["DTSTART"].dt)
            self.assertEqual(other[uid].name, str(event["SUMMARY"]))
        return calendar, events

    def test_a_feed_is_a_calendar_with_a_time_zone(self):
        self.store(holodule("calendar_01", 1, "feed-a", description="line\nline; two, three\\", tags=["game"]))
        self.store(holodule("calendar_02", 400, "feed-a"))
        self.store(holodule("calendar_03", -40, "feed-a"))
        self.store(holodule("calendar_04", -3, "feed-a", url="http://insecure.example/"))
        self.store(holodule("calendar_05", 1, "feed-other"))
        calendar, events = self.read(self.create(label="推し mine", name=["feed-a"]))
        self.assertEqual(str(calendar["NAME"]), "推し mine")
        self.assertEqual(str(calendar["X-WR-CALNAME"]), "推し mine")
        self.assertEqual(calendar["REFRESH-INTERVAL"].dt, datetime.timedelta(minutes=30))
        self.assertEqual(calendar["REFRESH-INTERVAL"].params["VALUE"], "DURATION")
        [zone] = calendar.walk("VTIMEZONE")
        self.assertEqual(str(zone["TZID"]), "Asia/Tokyo")
        self.assertEqual(zone.to_tz().utcoffset(datetime.datetime(2026, 7, 1)), datetime.timedelta(hours=9))
        uids = [f"calendar_0{number}@video.holodule.invalid" for number in (1, 4)]
        self.assertEqual(sorted(events), uids)
        event, insecure = (events[uid] for uid in uids)
        self.assertEqual(event["DTSTART"].dt, start(1))
        self.assertEqual(event["DTSTART"].params["TZID"], "Asia/Tokyo")
        self.assertEqual(event["DTEND"].dt - event["DTSTART"].dt, datetime.timedelta(hours=2))
        self.assertEqual(str(event["SUMMARY"]), "feed-a: title")
        url = "https://www.youtube.com/watch?v=calendar_01"
        self.assertEqual(str(event["DESCRIPTION"]), f"{url}\n\nline\nline; two, three\\")
        self.assertEqual(str(event["URL"]), url)
        self.assertEqual(event["CATEGORIES"].cats, ["game"])
        self.assertEqual(str(event["STATUS"]), "CONFIRMED")
        self.assertNotIn("URL", insecure)

    def test_lines_are_those_of_the_rfc(self):
        long = "【歌枠】星街すいせい🎤👩‍👩‍👧‍👦🇯🇵" * 12
        self.store(holodule("calendar_11", 2, "feed-b", title=long, description=f"{long}\r\nEND:VCALENDAR\r\n{long}"))
        feed = self.create(name=["feed-b"])
        _, events = self.read(feed)
        [event] = events.values()
        self.assertTrue(f"feed-b: {long}".startswith(str(event["SUMMARY"]).removesuffix("…")))
        self.assertIn(long, str(event["DESCRIPTION"]))
        body = self.fetch(feed).body
        self.assertTrue(body.endswith(b"END:VCALENDAR\r\n"))
        lines = body.split(b"\r\n")
        self.assertEqual(lines.count(b"END:VCALENDAR"), 1)
        for line in lines:
            self.assertLessEqual(len(line), 75)
            line.decode()  # no character is split
            self.assertNotRegex(line, rb"[\x00-\x08\n-\x1f\x7f]")

    def test_changes_have_revisions_and_deletions_are_cancellations(self):
        self.store(holodule("calendar_21", 1, "feed-c"))
        self.store(holodule("calendar_22", 1, "feed-c"))
        feed, other = self.create(name=["feed-c"]), self.create(name=["feed-c", "feed-moved"])
        uids = changed, gone = [f"calendar_2{number}@video.holodule.invalid" for number in (1, 2)]
        _, before = self.read(feed)
        self.read(other)
        self.assertEqual(sorted(before), uids)
        self.store(holodule("calendar_21", 2, "feed-c"))
        self.assertEqual(self.admin("DELETE", "/holodules/calendar_22"), 204)
        _, after = self.read(feed)
        self.assertEqual(sorted(after), uids)
        for uid in uids:
            self.assertGreater(after[uid]["SEQUENCE"], before[uid]["SEQUENCE"])
            self.assertGreaterEqual(after[uid]["LAST-MODIFIED"].dt, before[uid]["LAST-MODIFIED"].dt)
        self.assertEqual(after[changed]["DTSTART"].dt, start(2))
        self.assertEqual([str(after[uid]["STATUS"]) for uid in uids], ["CONFIRMED", "CANCELLED"])
        _, same = self.read(feed)
        self.assertEqual([same[uid]["SEQUENCE"] for uid in uids], [after[uid]["SEQUENCE"] for uid in uids])
        # It leaves one of the feeds only.
        self.store(holodule("calendar_21", 2, "feed-moved"))
        self.assertEqual(str(self.read(feed)[1][changed]["STATUS"]), "CANCELLED")
        self.assertEqual(str(self.read(other)[1][changed]["STATUS"]), "CONFIRMED")
        self.store(holodule("calendar_22", 1, "feed-c"))
        back = self.read(feed)[1][gone]
        self.assertEqual((str(back["STATUS"]), back["SEQUENCE"] > after[gone]["SEQUENCE"]), ("CONFIRMED", True))

    def test_an_unchanged_feed_is_not_sent_again_and_never_cached(self):
        self.store(holodule("calendar_31", 1, "feed-d"))
        feed = self.create(name=["feed-d"])
        first = self.fetch(feed)
        tag = first.headers["ETag"]
        again = self.fetch(feed, If_None_Match=tag)
        self.assertEqual((again.status, again.body, again.headers["ETag"]), (304, b"", tag))
        head = self.fetch(feed, "HEAD")
        self.assertEqual((head.status, head.body, head.headers["Content-Length"]), (200, b"", str(len(first.body))))
        self.assertNotRegex(first.headers["Cache-Control"], "public|s-maxage")
        self.assertIn("private", first.headers["Cache-Control"])
        self.store(holodule("calendar_31", 2, "feed-d"))
        changed = self.fetch(feed, If_None_Match=tag)
        self.assertEqual(changed.status, 200)
        self.assertNotEqual(changed.headers["ETag"], tag)

    def test_a_feed_is_compressed_for_clients_that_accept_it(self):
        self.store(holodule("calendar_41", 1, "feed-i", description="word " * 90))
        feed = self.create(name=["feed-i"])
        plain = self.fetch(feed)
        self.assertIsNone(plain.headers["Content-Encoding"])
        packed = self.fetch(feed, Accept_Encoding="gzip")
        self.assertEqual((packed.status, packed.headers["Content-Encoding"]), (200, "gzip"))
        self.assertIn("Accept-Encoding", packed.headers["Vary"])
        self.assertEqual(gzip.decompress(packed.body), plain.body)
        self.assertLess(len(packed.body), len(plain.body))
        tag = packed.headers["ETag"]
        again = self.fetch(feed, Accept_Encoding="gzip", If_None_Match=tag)
        self.assertEqual((again.status, again.headers["ETag"]), (304, tag))
        self.assertNotIn(feed["key"].encode(), plain.body, "compression must not depend on the key")

    def test_only_the_key_opens_a_feed_and_only_that_feed(self):
        feed = self.create(name=["feed-e"])
        key = feed["key"]
        unknown = [f"/calendar/{'0' * 64}.ics", f"/calendar/{key[:-1]}.ics", f"/calendar/{key.upper()}.ics", "/calendar/a.ics"]
        bodies = {(answer.status, answer.body) for answer in (self.client.send("GET", path) for path in unknown)}
        self.assertEqual(len(bodies), 1)
        [(status, body)] = bodies
        self.assertEqual((status, json.loads(body)["status"]), (404, 404))
        for method, path in (("GET", "/calendar"), ("GET", "/holodules/20201209"), ("DELETE", f"/calendar/{feed['id']}")):
            self.assertEqual(self.client.send(method, path, headers=[("Authorization", f"Bearer {key}")]).status, 401, path)

    def test_a_user_lists_and_revokes_feeds(self):
        feed = self.create(label="mine", name=["feed-f"], code=[], tag=["a", "b"])
        listed = self.call("GET", "/calendar")
        self.assertEqual(listed.status, 200)
        self.assertNotIn(feed["key"], listed.body.decode())
        [shown] = [each for each in json.loads(listed.body)["calendars"] if each["id"] == feed["id"]]
        filters = {"code": [], "name": ["feed-f"], "group": [], "tag": ["a", "b"]}
        self.assertEqual((shown["label"], shown["filter"]), ("mine", filters))
        self.assertEqual(self.fetch(feed).status, 200)
        self.assertEqual(self.call("DELETE", f"/calendar/{'0' * 32}").status, 404)
        self.assertEqual(self.call("DELETE", f"/calendar/{feed['id']}").status, 204)
        self.assertEqual(self.fetch(feed).status, 404)
        self.assertEqual(self.call("DELETE", f"/calendar/{feed['id']}").status, 404)

    def test_requests_are_validated(self):
        for request, parameter in [
            ({"codes": []}, None), ({"code": "HL0501"}, None), ({"label": 1}, None), ([], None),
            ({"label": ""}, "label"), ({"code": ["x"]}, "code"), ({"group": ["unknown"]}, "group"), ({"tag": [""]}, "tag"),
        ]:  # fmt: skip
            with self.subTest(request):
                refused = self.call("POST", "/calendar", request)
                problem = json.loads(refused.body)
                self.assertEqual((refused.status, problem["status"], problem.get("parameter")), (400, 400, parameter))
                self.assertEqual(refused.headers["Content-Type"], "application/problem+json")

    def another_user(self, name):
        user = {"username": name, "password": "password02"}
        self.assertEqual(self.admin("POST", "/users", user), 201)
        self.addCleanup(self.admin, "DELETE", f"/users/{name}")
        return self.client.login(user)

    def test_feeds_belong_to_their_users_and_end_with_them(self):
        token = self.another_user("calendar-user")
        own, theirs = self.create(name=["feed-g"]), self.create(token, name=["feed-g"])
        self.assertNotIn(own["id"], self.call("GET", "/calendar", token=token).body.decode())
        self.assertEqual(self.call("DELETE", f"/calendar/{own['id']}", token=token).status, 404)
        self.assertEqual(self.fetch(own).status, 200)
        self.assertEqual(self.fetch(theirs).status, 200)
        self.assertEqual(self.admin("PATCH", "/users/calendar-user", {"disabled": True}), 204)
        self.assertEqual(self.fetch(theirs).status, 404)
        self.assertEqual(self.admin("PATCH", "/users/calendar-user", {"disabled": False}), 204)
        self.assertEqual(self.fetch(theirs).status, 404, "disabling ends it")
        token = self.client.login({"username": "calendar-user", "password": "password02"})
        again = self.create(token, name=["feed-g"])
        self.assertEqual(self.admin("DELETE", "/users/calendar-user"), 204)
        self.assertEqual(self.fetch(again).status, 404)
        self.assertEqual(self.fetch(own).status, 200)

    def test_the_number_of_feeds_is_limited(self):
        token = self.another_user("calendar-many")
        for _ in range(20):
            self.create(token)
        refused = self.call("POST", "/calendar", {}, token)
        self.assertEqual((refused.status, json.loads(refused.body)["status"]), (409, 409))

    def test_no_log_and_no_metric_has_a_key(self):
        feed = self.create(name=["feed-h"])
        key = feed["key"]
        encoded = "".join(f"%{byte:02X}" for byte in key.encode())
        paths = [feed["path"], f"/calendar/{key}", f"/Calendar/{key}.ics", f"/calendar/{encoded}.ics", f"/calendar/{key}.ics/"]
        paths += [f"/calendar/{key}.ics?{key}", f"/calendar/x;{key}.ics", f"/users/{key}", f"/{encoded.replace('%', '%25')}"]
        for path in paths:
            self.client.send("GET", path)
            self.client.send("POST", path, b"{}", [("Content-Type", "application/json")])
            self.assertIn(self.admin("GET", path), (404, 405), "the admin listener has no feeds")
        self.assertEqual(self.fetch(feed).status, 200)
        texts = {}
        deadline = time.monotonic() + SECONDS
        while texts.get("backend.log", "").count("/calendar/{key}.ics") < 2 and time.monotonic() < deadline:
            texts = {log.name: log.read_text() for log in self.stack.folder.glob("*.log")}
        self.assertIn("/calendar/{key}.ics", texts["backend.log"])
        self.assertIn("/calendar/{key}.ics", texts["gateway.log"])
        for listener in ("admin", "ops"):
            with closing(http.client.HTTPConnection(self.stack.addresses()[listener], timeout=SECONDS)) as connection:
                connection.request("GET", "/metrics")
                texts[listener] = connection.getresponse().read().decode()
        self.assertIn('route="/calendar/{key}.ics"', texts["admin"])
        for place, text in texts.items():
            for secret in (key, encoded, encoded.replace("%", "%25"), urllib.parse.quote(key), CREDENTIALS["password"]):
                self.assertNotIn(secret, text, place)
                self.assertNotIn(secret[:40], text, place)  # nor the beginning of one


if __name__ == "__main__":
    unittest.main()
