#!/usr/bin/env python3
"""The admin page in headless Chromium: each function by keyboard, in Japanese and English, and axe-core in light and dark.

python3 ops/checks/test_admin_page.py --screenshots DIRECTORY    writes the pictures of the README with the sample data
"""

import json
import re
import sys
import unittest
import urllib.parse
from pathlib import Path

from admin_page import BACKEND, DAY, LANGUAGES, SAMPLES, VIDEO, PageTests, running_backend, send
from browser import Failure, browsing, running_driver
from support import ROOT, enter, record, run

# Installed by ops/test; of this package only axe-core is used.
AXE = ROOT / "target/tools/axe_playwright_python/axe.min.js"
VIEWS = (DAY, "/?month=1999-01", "/page/search?q=ASMR&from=2020-12-01&to=2020-12-31", "/page/transfer", "/page/users")
VIEWS += ("/page/duplicates", "/page/health", "/?day=none")
# Parts of the page that are wider than the place that they have.
OVERFLOWING = """
const out = (inner, outer) => inner.getBoundingClientRect().right > outer.getBoundingClientRect().right + 1;
const boxes = [...document.querySelectorAll('.drop > *')].filter(part => out(part, part.parentElement));
const hours = [...document.querySelectorAll('.hours li')].filter(hour => hour.scrollWidth > hour.clientWidth);
const words = [...document.querySelectorAll('.role')].filter(role => role.getClientRects().length > 1);
return [...boxes, ...hours, ...words].map(part => part.outerHTML);
"""
HOSTILE = "<img src=x onerror=alert(1)>\"'</script><script>alert(2)</script>"


class AdminPage(PageTests):
    def test_a_stream_is_added_edited_deleted_and_restored(self):
        for page in self.each(DAY, refused=True):
            page.focus("[data-add]")
            page.press("Enter")
            self.assertEqual(page.focused(), "record-video_id")
            page.press("Enter")
            page.until_text("#record-video_id-error", self.reason("must not be empty where the key is empty too"))
            self.assertEqual((page.focused(), page.invalid()), ("record-video_id", ["video_id"]))
            page.press(VIDEO)
            page.fill("#record-datetime", "2020-12-09 25:00:00")
            page.press("Enter")
            page.until_text("#record-datetime-error", self.reason("must be a day of the calendar and a time of the day"))
            self.assertEqual((page.focused(), page.invalid()), ("record-datetime", ["datetime"]))
            page.fill("#record-datetime", "2020-12-09 23:15:00")
            page.fill("#record-name", "獅白ぼたん")
            page.fill("#record-url", "https://www.youtube.com/watch?v=x&t=1")
            page.fill("#record-title", HOSTILE)
            page.focus("#record [type=submit]")
            page.press("Enter")
            page.until_text("#toasts", self.say("CREATED"))
            self.assertIn(HOSTILE, page.focused(), "the edit button of the new stream")
            self.assertEqual(page.text(".entry .title"), HOSTILE)
            added = self.export()
            self.assertEqual(json.loads(added)["title"], HOSTILE)

            page.press("Enter")
            page.until("return document.activeElement.id === 'record-title';")
            page.press("Control+a", "題名 2")
            page.focus("#record [type=submit]")
            page.press("Enter")
            page.until_text("#toasts", self.say("SAVED"))
            self.assertEqual(self.export(), added.replace(json.dumps(HOSTILE), '"題名 2"'))

            before = self.export()
            page.focus("[data-delete]")
            page.press("Enter")
            page.until_text("#toasts", self.say("DELETED", title="題名 2"))
            self.assertEqual((self.export(), page.focused()), ("", self.say("UNDO")))
            self.assertEqual(page.find(".entry"), [])
            page.press("Enter")
            page.until_text("#toasts", self.say("RESTORED", title="題名 2"))
            self.assertEqual(self.export(), before, "to the byte")
            self.assertIn("題名 2", page.focused())

    def test_a_deletion_that_cannot_be_undone_is_confirmed(self):
        stored = {"key": "HL0503_20201209_230000", "video_id": "", "datetime": "20201209 230000", "title": "a"}
        for page in self.each("/page/health"):
            # Two streams with one key: an upload would change the other one.
            send(self.base, "PUT", f"/holodules/{stored['key']}", json.dumps(stored))
            send(self.base, "PUT", f"/holodules/{VIDEO}", json.dumps(stored | {"video_id": VIDEO, "title": "b"}))
            page.open(self.base + DAY)
            page.focus(f"[data-delete={stored['key']}]")
            page.press("Enter")
            page.until_text("#confirm-text", self.say("INCOMPLETE_UNDO"))
            page.press("Escape")
            self.assertEqual(len(self.export().splitlines()), 2)
            page.press("Enter")
            page.until("return document.getElementById('confirm').open;")
            page.focus("#confirm [type=submit]")
            page.press("Enter")
            page.until_text("#toasts", self.say("DELETED", title="a"))
            self.assertEqual(json.loads(self.export())["title"], "b")

    def test_the_calendar_is_used_by_keyboard(self):
        self.upload()
        for language in LANGUAGES:
            with self.subTest(language=language), self.page(DAY, language) as page:
                page.press("Tab")
                self.assertEqual(page.run("return document.activeElement.hash;"), "#main", "the first link skips the menu")
                page.focus("[data-grid] [aria-current]")
                page.press("Right", "Down", "Left", "Left", "Up", "Home", "End", "Left")
                page.press("Enter")
                page.until("return location.search.includes('2020-12-30');")
                page.focus("[data-grid] [aria-current]")
                page.press("PageDown")
                page.until("return location.search.includes('month=2021-01');")
                page.focus("#go-day")
                page.run("document.getElementById('go-day').value = '2020-12-31';")
                page.focus(".go button")
                page.press("Enter")
                page.until("return location.search.includes('day=2020-12-31');")
                self.assertEqual(len(page.find(".entry")), 40)

    def test_users_are_managed(self):
        for page in self.each("/page/users", refused=True):
            page.focus("[data-user-add]")
            page.press("Enter")
            page.fill("#user-add-username", "static:x")
            page.fill("#user-add-password", "password01")
            page.press("Enter")
            page.until_text("#user-add-username-error", self.reason('a username must not begin with "static:"'))
            self.assertEqual((page.focused(), page.invalid()), ("user-add-username", ["username"]))
            page.press("Control+a", "利用者 01")
            page.press("Enter")
            page.until_text("#toasts", self.say("USER_ADDED", name="利用者 01"))
            self.assertEqual(list(self.users()), ["利用者 01"])

            page.focus("[data-user-roles]")
            page.press("Enter")
            page.fill("#user-roles-roles", 'editor "')
            page.focus("#user-roles [type=submit]")
            page.press("Enter")
            page.until_text(
                "#user-roles-roles-error", self.reason('a role is 1 to 64 printable ASCII characters, without space, " and \\')
            )
            page.press("Control+a", "viewer editor")
            page.focus("#user-roles [type=submit]")
            page.press("Enter")
            page.until_text("#toasts", self.say("ROLES_SET", name="利用者 01"))
            self.assertEqual(self.users()["利用者 01"]["roles"], ["editor", "viewer"])

            page.focus("[data-user-password]")
            page.press("Enter")
            page.press("Enter")
            page.until_text("#user-password-password-error", self.reason("a password must not be empty"))
            page.press("password02", "Enter")
            page.until_text("#toasts", self.say("PASSWORD_SET", name="利用者 01"))
            verified = send(self.base, "POST", "/credentials/verify", '{"username":"利用者 01","password":"password02"}')
            self.assertEqual(verified[0], 200)

            for disabled, done in ((True, "USER_DISABLED"), (False, "USER_ENABLED")):
                page.focus("[data-user-switch]")
                page.press("Enter")
                if disabled:
                    page.until_text("#confirm-text", self.say("DISABLE_USER", name="利用者 01"))
                    page.focus("#confirm [type=submit]")
                    page.press("Enter")
                page.until_text("#toasts", self.say(done, name="利用者 01"))
                self.assertIs(self.users()["利用者 01"]["disabled"], disabled)

            self.add_feed("利用者 01", HOSTILE)
            page.focus('main a[href^="/page/calendars"]')
            page.press("Enter")
            page.until("return document.querySelector('[data-feed-delete]');")
            self.assertEqual(page.text("tbody th"), HOSTILE)
            page.focus("[data-feed-delete]")
            page.press("Enter")
            page.until_text("#confirm-text", self.say("DELETE_FEED", label=HOSTILE))
            page.focus("#confirm [type=submit]")
            page.press("Enter")
            page.until_text("#toasts", self.say("FEED_DELETED", label=HOSTILE))
            listed = send(self.base, "GET", f"/users/{urllib.parse.quote('利用者 01')}/calendar")
            self.assertEqual(listed, (200, '{"calendars":[]}\n'))

            page.open(self.base + "/page/users")
            page.focus("[data-user-delete]")
            page.press("Enter")
            page.until_text("#confirm-text", self.say("DELETE_USER", name="利用者 01"))
            page.focus("#confirm [type=submit]")
            page.press("Enter")
            page.until_text("#toasts", self.say("USER_DELETED", name="利用者 01"))
            self.assertEqual(self.users(), {})

    def test_streams_are_found(self):
        self.upload()
        for language in LANGUAGES:
            with self.subTest(language=language), self.page("/page/search", language) as page:
                page.fill("#q", "ａｓｍｒ")
                page.run("document.getElementById('from').value = '2020-12-01';")
                page.run("document.getElementById('to').value = '2020-12-31';")
                page.fill("#streamer", "HL0501")
                page.press("Escape")
                page.focus("form.search [type=submit]")
                page.press("Enter")
                page.until("return document.getElementById('results');")
                found = [page.run("return args[0].innerText;", title) for title in page.find(".entry .title")]
                wanted = [r for r in map(json.loads, self.export().splitlines()) if "ASMR" in r["title"]]
                wanted = [r for r in wanted if r["key"].startswith("HL0501_202012")]
                self.assertEqual(len(found), len(wanted))
                self.assertTrue(found and all("ASMR" in title for title in found))
                page.open(f"{self.base}/page/search?from=2020-12-01&to=2020-12-31")
                seen = set()
                while True:
                    seen |= set(page.run("return [...document.querySelectorAll('button[data-edit]')].map(b => b.dataset.edit);"))
                    if not page.find("a[rel=next]"):
                        break
                    before = page.address()
                    page.run("document.querySelector('a[rel=next]').focus();")
                    page.press("Enter")
                    page.until("return location.href !== args[0] && document.readyState === 'complete';", before)
                in_december = [r for r in map(json.loads, self.export().splitlines()) if r["datetime"].startswith("202012")]
                self.assertEqual(len(seen), len(in_december))

    def test_the_state_is_shown(self):
        self.upload()
        for language, words in (("en", ["Ready.", "redb", "587"]), ("ja", ["稼働中です。", "redb", "587"])):
            with self.subTest(language=language), self.page("/page/health", language) as page:
                for word in words:
                    self.assertIn(word, page.text("main"))
                version = run(BACKEND, "--version").stdout.split(maxsplit=1)[1].strip()
                self.assertIn(version, page.text("main"))

    def test_axe_finds_nothing_in_light_and_dark(self):
        self.upload()
        for name, disabled in (("user01", False), ("user02", True)):
            send(self.base, "POST", "/users", json.dumps({"username": name, "password": "password01"}))
            send(self.base, "PUT", f"/users/{name}/roles", '["editor","viewer"]')
            if not disabled:
                self.add_feed(name, "推し")
            send(self.base, "PATCH", f"/users/{name}", json.dumps({"disabled": disabled}))
        opened = {
            DAY: ["[data-add]", "[data-edit]"],
            "/page/users": ["[data-user-add]", "[data-user-roles]", "[data-user-delete]"],
        }
        for language in LANGUAGES:
            for dark in (False, True):
                with self.subTest(language=language, dark=dark), self.page(DAY, language, dark, refused=True) as page:
                    scheme = "matchMedia('(prefers-color-scheme: dark)').matches"
                    self.assertIs(page.run(f"return {scheme};"), dark)
                    for view in (*VIEWS, "/page/calendars?user=user01"):
                        page.open(self.base + view)
                        self.audit(page, view)
                        for button in opened.get(view, []):
                            page.click(button)
                            page.until("return document.querySelector('dialog[open]');")
                            self.audit(page, f"{view} {button}")
                            page.press("Escape")
                    page.open(self.base + "/page/transfer")
                    page.drop("[data-drop]", SAMPLES / "defects.csv")
                    page.until("return !document.getElementById('rejects').hidden;")
                    self.audit(page, "rejected rows")
                    page.open(self.base + DAY)
                    page.click("[data-delete]")
                    page.until("return document.querySelector('.toast');")
                    self.audit(page, "a notification")
                    page.click(".toast button")
                    page.until("return document.querySelectorAll('.toast').length === 1;")

    def audit(self, page, what):
        listed = "found.violations.map(violation => [violation.id, violation.nodes.map(node => node.html)])"
        # During an animation, colours are those of neither state.
        settled = "await Promise.all(document.getAnimations().map(animation => animation.finished));"
        script = f"{AXE.read_text()}\n{settled}\nconst found = await axe.run();"
        version, passes, found = page.run(f"{script} return [axe.version, found.passes.length, {listed}];")
        record("axe", version=version, passes=passes, violations=len(found), view=what)
        self.assertEqual(found, [], what)

    def test_a_narrow_window_does_not_scroll_sideways(self):
        self.upload()
        send(self.base, "POST", "/users", json.dumps({"username": "user01", "password": "password01"}))
        send(self.base, "PUT", "/users/user01/roles", '["editor","viewer"]')
        for language in LANGUAGES:
            with self.subTest(language=language), self.page(DAY, language, refused=True) as page:
                # The width at which there is one direction of scrolling (WCAG 2.2, 1.4.10). `innerWidth` grows with what
                # overflows.
                width = 320
                page.devtools("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=True)
                for view in VIEWS:
                    page.open(self.base + view)
                    self.assertLessEqual(page.run("return document.documentElement.scrollWidth;"), width, view)
                    self.assertEqual(page.run(OVERFLOWING), [], view)

    def test_without_scripts_nothing_is_shown_that_needs_them(self):
        self.upload()
        send(self.base, "POST", "/users", json.dumps({"username": "user01", "password": "password01"}))
        dead = ("[data-add]", "[data-edit]", "[data-delete]", "[data-user-add]", "[data-user-roles]", ".import")
        for view in (DAY, "/page/transfer", "/page/users"):
            with self.subTest(view=view), self.page("/page/health", "en") as page:
                page.devtools("Emulation.setScriptExecutionDisabled", value=True)
                page.open(self.base + view)
                root = page.devtools("DOM.getDocument")["root"]["nodeId"]

                def found(selector, page=page, root=root):
                    return page.devtools("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]

                for node in filter(None, map(found, dead)):
                    with self.assertRaises(Failure):
                        page.devtools("DOM.getBoxModel", nodeId=node)
                self.assertTrue(any(map(found, dead)))
                note = page.devtools("DOM.getBoxModel", nodeId=found("noscript .notice"))
                self.assertGreater(note["model"]["height"], 0)

    def test_streams_are_printed_without_controls(self):
        self.upload()
        with self.page(DAY, "ja", dark=True) as page:
            page.devtools("Emulation.setEmulatedMedia", media="print")
            self.assertTrue(page.find(".entry .title"))
            self.assertEqual([part for part in (".bar", ".actions", ".go", ".steps") if page.find(part)], [])
            ground = "return getComputedStyle(document.documentElement).colorScheme;"
            self.assertEqual(page.run(ground), "light")

    def test_no_label_of_the_search_wraps_and_boxes_keep_their_distance(self):
        for language in LANGUAGES:
            for width in (390, 768, 1200):
                with self.subTest(language=language, width=width), self.page("/page/search", language) as page:
                    page.devtools("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=True)
                    page.open(self.base + "/page/search")
                    heights = "return [...document.querySelectorAll('form.search label')].map(label => label.offsetHeight);"
                    self.assertLess(max(page.run(heights)), 30)
                    page.open(self.base + "/page/duplicates")
                    top = "return document.querySelector('.empty').getBoundingClientRect().top"
                    bottom = "document.querySelector('.hint').getBoundingClientRect().bottom;"
                    self.assertGreater(page.run(f"{top} - {bottom}"), 8)


# The pictures of the README: name, view, language, dark.
SCREENSHOTS = (
    ("admin-calendar-en", "/?day=2020-12-14", "en", False),
    ("admin-calendar-ja-dark", "/?day=2020-12-14", "ja", True),
    ("admin-import-en-dark", "/page/transfer", "en", True),
)


class Screenshots(unittest.TestCase):
    def test_the_pictures_of_the_readme_are_of_views_that_exist(self):
        names = [name for name, *_ in SCREENSHOTS]
        shown = re.findall(r"\(ops/docs/([\w-]+)\.webp\)", (ROOT / "README.md").read_text())
        self.assertEqual(shown, names)
        base = enter(self.addCleanup, running_backend())["admin"]
        for name, path, language, dark in SCREENSHOTS:
            picture = (ROOT / "ops/docs" / f"{name}.webp").read_bytes()
            self.assertEqual((picture[:4], picture[8:12]), (b"RIFF", b"WEBP"), name)
            self.assertGreater(len(picture), 10_000, name)
            status, document = send(base, "GET", f"{path}{'&' if '?' in path else '?'}lang={language}")
            self.assertEqual((status, f'lang="{language}"' in document), (200, True), name)
            self.assertEqual(name.endswith("-dark"), dark)


def screenshots(folder):
    """The pictures of the README."""
    folder.mkdir(parents=True, exist_ok=True)
    with running_backend() as addresses, running_driver() as driver:
        base = addresses["admin"]
        send(base, "POST", "/holodules", (SAMPLES / "holodules.csv").read_bytes(), "text/csv")
        for name, path, language, dark in SCREENSHOTS:
            with browsing(driver, language, dark) as browser:
                browser.open(base + path)
                if path == "/page/transfer":
                    browser.drop("[data-drop]", SAMPLES / "defects.csv")
                    browser.until("return !document.getElementById('rejects').hidden;")
                (folder / f"{name}.webp").write_bytes(browser.screenshot(1200, 760))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--screenshots"] and len(sys.argv) == 3:
        screenshots(Path(sys.argv[2]))
    else:
        unittest.main()
