#!/usr/bin/env python3
"""The admin page while several people use it: what others have changed or added is not overwritten, and what was entered
is not lost."""

import contextlib
import json
import tempfile
import unittest
from pathlib import Path

from admin_page import DAY, VIDEO, PageTests, send

PATH = f"/holodules/{VIDEO}"
KEY = "HL0503_20201209_230000"
STORED = {"key": KEY, "video_id": VIDEO, "datetime": "20201209 230000", "title": "a", "name": "n"}
LEAVING = """const event = new Event('beforeunload', { cancelable: true });
             window.dispatchEvent(event); return event.defaultPrevented;"""


class AdminEdits(PageTests):
    def store(self, **fields):
        """Stores the stream as another person would."""
        self.assertIn(send(self.base, "PUT", PATH, json.dumps(STORED | fields))[0], (200, 201))

    def stored(self):
        return json.loads(self.export())

    def begin(self, page):
        """Opens the form of the only stream of the day."""
        page.open(self.base + DAY)
        page.focus("[data-edit]")
        page.press("Enter")
        page.until("return document.activeElement.id === 'record-title';")

    def save(self, page):
        page.focus("#record [type=submit]")
        page.press("Enter")

    def label(self, page, name):
        return page.run("return document.querySelector(`label[for=record-${args[0]}]`).textContent;", name)

    def value(self, page, name):
        return page.run("return document.getElementById(`record-${args[0]}`).value;", name)

    def confirm(self, page):
        page.until("return document.getElementById('confirm').open;")
        page.focus("#confirm [type=submit]")
        page.press("Enter")

    def test_only_what_was_edited_is_changed_after_a_conflict(self):
        for page in self.each("/page/health", refused=True):
            self.store()
            self.begin(page)
            page.press("Control+a", "mine")
            moved = {"key": "HL0503_20201210_220000", "datetime": "20201210 220000", "title": "theirs", "description": "d"}
            self.store(**moved)
            self.save(page)
            labels = ", ".join(self.label(page, name) for name in ("datetime", "key", "title", "description"))
            page.until_text("[data-form-error]", self.say("CHANGED_MEANWHILE", fields=labels))
            self.assertEqual(self.value(page, "datetime"), "2020-12-10 22:00:00")
            self.assertEqual(page.text("#record-key-error"), self.say("NEW_VALUE"))
            self.assertIn(self.say("OTHER_VALUE", value="theirs"), page.text("#record-title-error"))
            self.assertEqual(self.value(page, "title"), "mine")
            self.assertEqual(self.stored()["title"], "theirs", "nothing is saved yet")
            self.save(page)
            page.until_text("#toasts", self.say("SAVED"))
            self.assertEqual(self.stored(), STORED | moved | {"title": "mine"})

    def test_the_value_of_the_other_person_can_be_used(self):
        for page in self.each("/page/health", refused=True):
            self.store()
            self.begin(page)
            page.press("Control+a", "mine")
            page.fill("#record-name", "also mine")
            self.store(title="theirs")
            self.save(page)
            page.until_text("#record-title-error", self.say("TAKE_VALUE"))
            page.click("#record-title-error button")
            self.save(page)
            page.until_text("#toasts", self.say("SAVED"))
            self.assertEqual((self.stored()["title"], self.stored()["name"]), ("theirs", "also mine"))

    def test_undo_does_not_overwrite_what_others_have_added(self):
        for page in self.each("/page/health", refused=True):
            self.store()
            page.open(self.base + DAY)
            page.click("[data-delete]")
            page.until_text("#toasts", self.say("UNDO"))
            self.store(title="theirs")
            page.press("Enter")
            page.until_text("#toasts", self.say("ADDED_MEANWHILE", title="a"))
            self.assertEqual(self.stored()["title"], "theirs")

    def test_a_stream_that_was_changed_is_not_deleted(self):
        for page in self.each("/page/health", refused=True):
            self.store()
            page.open(self.base + DAY)
            # Between the read and the deletion.
            page.run(
                """const send = window.fetch;
                window.fetch = async (path, options) => {
                  if (options.method === "DELETE") {
                    window.fetch = send;
                    await send(path, { method: "PUT", body: args[0], headers: { "Content-Type": "application/json" } });
                  }
                  return send(path, options);
                };""",
                json.dumps(STORED | {"title": "theirs"}),
            )
            page.click("[data-delete]")
            page.until_text("#toasts", self.say("NOT_DELETED"))
            self.assertEqual(self.stored()["title"], "theirs")

    def test_one_of_several_documents_with_an_identifier_is_not_edited(self):
        for page in self.each("/page/health"):
            self.store()
            page.open(self.base + DAY)
            # As MongoDB without its unique index.
            page.run(
                """const send = window.fetch;
                window.fetch = async (path, options) => {
                  const response = await send(path, options);
                  const headers = new Headers(response.headers);
                  headers.set("X-Same-Identifier", "2");
                  return new Response(await response.text(), { status: response.status, headers });
                };"""
            )
            page.click("[data-edit]")
            page.until_text("#toasts", self.say("SAME_IDENTIFIER"))
            self.assertEqual(page.find("dialog[open]"), [])

    def test_every_deletion_can_be_undone_on_another_day(self):
        for page in self.each("/page/health"):
            videos = [f"aaaaaaaaaa{number}" for number in range(5)]
            for video in videos:
                send(self.base, "PUT", f"/holodules/{video}", json.dumps(STORED | {"video_id": video, "title": video}))
            before = self.export()
            page.open(self.base + DAY)
            for count in range(1, 6):
                page.click("[data-delete]")
                page.until("return document.querySelectorAll('.toast').length === args[0];", count)
            page.open(f"{self.base}/?day=2020-12-10")
            self.assertEqual(page.run("return document.querySelectorAll('.toast').length;"), 5)
            for left in range(4, -1, -1):
                page.click(".toast[data-action] button")
                page.until("return document.querySelectorAll('.toast[data-action]').length === args[0];", left)
            page.until("return sessionStorage.getItem('deletions') === '[]';")
            self.assertEqual(sorted(self.export().splitlines()), sorted(before.splitlines()))
            page.open(self.base + DAY)
            self.assertEqual(page.run("return document.querySelectorAll('.toast').length;"), 0)

    def test_an_emptied_field_is_removed_or_refused(self):
        for page in self.each("/page/health"):
            self.store(code="HL0503", description="d")
            self.begin(page)
            page.fill("#record-key", "")
            self.save(page)
            page.until_text("#record-key-error", self.say("KEY_REMAINS"))
            self.assertEqual((page.focused(), page.invalid()), ("record-key", ["key"]))
            page.press(KEY)
            page.fill("#record-code", "")
            page.fill("#record-description", "")
            self.save(page)
            page.until_text("#toasts", self.say("SAVED"))
            self.assertEqual(self.stored(), STORED | {"description": ""})
            self.begin(page)
            self.save(page)
            page.until_text("#toasts", self.say("NOTHING_EDITED"))

    def test_the_key_follows_the_start_and_the_day_is_linked(self):
        for page in self.each("/page/health"):
            self.store()
            self.begin(page)
            page.fill("#record-datetime", "2020-12-11 21:30:00")
            page.press("Tab")
            self.assertEqual(self.value(page, "key"), "HL0503_20201211_213000")
            self.assertEqual(page.text("#record-key-error"), self.say("KEY_FOLLOWS"))
            self.save(page)
            page.until_text("#toasts", self.say("SHOW_DAY"))
            self.assertEqual(self.stored()["key"], "HL0503_20201211_213000")
            page.press("Enter")
            page.until("return location.search.includes('2020-12-11') && document.querySelector('[data-edit]');")
            self.store(key="HL0503_20200101_000000", datetime="20201209 230000")
            self.begin(page)
            page.fill("#record-datetime", "2020-12-09 21:30:00")
            page.press("Tab")
            self.assertEqual(self.value(page, "key"), "HL0503_20200101_000000", "it was not made of the start")

    def test_what_was_entered_is_not_lost_without_a_question(self):
        for page in self.each("/page/health"):
            self.store()
            self.begin(page)
            self.assertIs(page.run(LEAVING), False, "nothing is edited yet")
            page.press("Control+a", "mine")
            self.assertIs(page.run(LEAVING), True)
            page.press("Escape")
            page.until("return document.getElementById('confirm').open;")
            self.assertEqual(page.text("#confirm-heading"), self.say("DISCARD_QUESTION"))
            page.press("Escape")
            page.until("return !document.getElementById('confirm').open;")
            self.assertEqual(
                (page.run("return document.getElementById('record').open;"), self.value(page, "title")), (True, "mine")
            )
            page.click("#record [data-close]")
            self.confirm(page)
            page.until("return !document.getElementById('record').open;")
            # The event of the closed dialog follows later.
            page.until(LEAVING.replace("return event", "return !event"))
            self.begin(page)
            page.press("Escape")
            page.until("return !document.getElementById('record').open;")

    @contextlib.contextmanager
    def file(self, name, text):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, name)
            file.write_text(text)
            yield file

    def test_rows_of_any_json_value_are_corrected(self):
        values = ["1", '"a"', "true", "null", "[1]", "{}"]
        bad = '{"video_id":"bad","datetime":"2021-01-01 00:00:00"}'
        for page in self.each("/page/transfer"):
            with self.file("a.json", f"[{','.join(values)},{bad}]") as file:
                page.drop("[data-drop]", file)
            page.until("return document.querySelectorAll('#rejects tbody tr').length === 7;")
            reasons = page.run("return [...document.querySelectorAll('#rejects tbody td:nth-child(2)')].map(td => td.innerText);")
            self.assertTrue(all("Fields" not in reason and "line 1" not in reason for reason in reasons), reasons)
            self.assertTrue(not self.reasons or not any(reason.isascii() for reason in reasons), reasons)
            page.fill("#rejects tbody tr:nth-child(7) [aria-invalid]", VIDEO)
            page.focus("#rejects [type=submit]")
            page.press("Enter")
            page.until("return document.querySelectorAll('#rejects tbody tr').length === 6;")
            self.assertEqual(self.stored()["video_id"], VIDEO)

    def test_corrected_rows_are_not_lost_without_a_question(self):
        bad = '{"video_id":"bad","datetime":"2021-01-01 00:00:00"}\n'
        corrected = "#rejects tbody tr [aria-invalid]"
        for page in self.each("/page/transfer"):
            with self.file("a.ndjson", bad) as file, self.file("b.txt", "x") as text:
                page.drop("[data-drop]", file)
                page.until(f"return document.querySelector('{corrected}');")
                self.assertIs(page.run(LEAVING), False)
                page.fill(corrected, "still bad")
                self.assertIs(page.run(LEAVING), True)
                page.drop("[data-drop]", text)
                page.until_text("#import-result", self.say("UNKNOWN_FILE"))
                self.assertEqual(page.run("return document.querySelector(args[0]).value;", corrected), "still bad")
                page.drop("[data-drop]", file)
                page.until("return document.getElementById('confirm').open;")
                page.press("Escape")
                page.until_text("#import-result", self.say("NOT_SENT"))
                self.assertEqual(page.run("return document.querySelector(args[0]).value;", corrected), "still bad")
                page.focus("#rejects [type=submit]")
                page.press("Enter")
                page.until_text("#import-result", self.say("IMPORTED", read=1, inserted=0, updated=0, unchanged=0, rejected=1))
                self.assertIs(page.run(LEAVING), True, "the correction is still not stored")
                page.drop("[data-drop]", file)
                self.confirm(page)
                page.until("return document.querySelector(args[0])?.value === 'bad';", corrected)

    def test_two_files_are_not_imported_in_part(self):
        row = '{"video_id":"%s","datetime":"2021-01-01 00:00:00"}\n'
        for page in self.each("/page/transfer"):
            with self.file("a.ndjson", row % "aaaaaaaaaaa") as one, self.file("b.ndjson", row % "bbbbbbbbbbb") as other:
                page.drop("[data-drop]", one, other)
                page.until_text("#import-result", self.say("ONE_FILE"))
            self.assertEqual(self.export(), "")

    def test_an_import_is_stopped(self):
        rows = "".join(f'{{"video_id":"video{number:06}","datetime":"2021-01-01 00:00:00"}}\n' for number in range(1500))
        for page in self.each("/page/transfer"):
            # The second part waits until the import was stopped.
            page.run(
                """const send = window.fetch;
                let parts = 0;
                window.fetch = async (path, options) => {
                  parts += 1;
                  if (parts === 2) {
                    await new Promise((resolve) => document.getElementById("cancel").addEventListener("click", resolve));
                  }
                  return send(path, options);
                };"""
            )
            with self.file("a.ndjson", rows) as file:
                page.drop("[data-drop]", file)
                page.until("return document.getElementById('progress-bar').value === 500;")
                self.assertIs(page.run(LEAVING), True)
                page.click("#cancel")
                page.until("return document.getElementById('progress').hidden;")
            counts = {"read": 1000, "inserted": 1000, "updated": 0, "unchanged": 0}
            self.assertEqual(page.text("#import-result"), self.say("STOPPED", **counts, reason=self.say("CANCELLED")))
            self.assertEqual(len(self.export().splitlines()), 1000)
            self.assertIs(page.run(LEAVING), False)

    def test_roles_that_others_have_granted_remain(self):
        for page in self.each("/page/health"):
            send(self.base, "POST", "/users", '{"username":"user01","password":"password01"}')
            send(self.base, "PUT", "/users/user01/roles", '["viewer","guest"]')
            page.open(f"{self.base}/page/users")
            page.click("[data-user-roles]")
            page.fill("#user-roles-roles", "viewer editor")
            send(self.base, "PUT", "/users/user01/roles", '["admin","guest","viewer"]')
            page.focus("#user-roles [type=submit]")
            page.press("Enter")
            page.until_text("#toasts", self.say("ROLES_SET", name="user01"))
            self.assertEqual(self.users()["user01"]["roles"], ["admin", "editor", "viewer"])

    def test_names_that_a_path_cannot_have_are_refused(self):
        for page in self.each("/page/users", refused=True):
            for name in (".", ".."):
                page.click("[data-user-add]")
                page.fill("#user-add-username", name)
                page.fill("#user-add-password", "password01")
                page.press("Enter")
                page.until_text("#user-add-username-error", self.reason("a username must not be . or .."))
                page.click("#user-add [data-close]")
                self.confirm(page)
                page.until("return !document.querySelector('dialog[open]');")
            self.assertEqual(self.users(), {})


if __name__ == "__main__":
    unittest.main()
