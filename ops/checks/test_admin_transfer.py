"""Import and export on the admin page, in headless Chromium, in Japanese and English."""

import json
import tempfile
import unittest
from pathlib import Path

from admin_page import LANGUAGES, SAMPLES, VIDEO, PageTests, send

ARRAY = b'[{"video_id":"dQw4w9WgXc_","datetime":"20201209 230000"}]'


class Transfer(PageTests):
    def test_a_dropped_file_is_imported_and_its_rejects_are_corrected(self):
        for page in self.each("/page/transfer"):
            page.drop("[data-drop]", SAMPLES / "defects.csv")
            page.until("return !document.getElementById('rejects').hidden;")
            counts = {"read": 10, "inserted": 2, "updated": 0, "unchanged": 0, "rejected": 8}
            self.assertEqual(page.text("#import-result"), self.say("IMPORTED", **counts))
            rows = page.run("return [...document.querySelectorAll('#rejects tbody tr')].map(row => row.cells[0].innerText);")
            self.assertEqual(rows, ["1", "2", "3", "4", "5", "6", "7", "10"])
            self.assertEqual(page.focused(), "rejects-heading")
            second = "#rejects tbody tr:nth-child(2)"
            self.assertEqual(page.run("return document.querySelector(args[0]).value;", f"{second} [aria-invalid]"), "short")
            page.fill(f"{second} [aria-invalid]", "ccccccccccc")
            page.fill("#rejects tbody tr:nth-child(8) [aria-invalid]", "https://www.youtube.com/")
            page.focus("#rejects [type=submit]")
            page.press("Enter")
            page.until("return document.querySelectorAll('#rejects tbody tr').length === 5;")
            rows = page.run("return [...document.querySelectorAll('#rejects tbody tr')].map(row => row.cells[0].innerText);")
            self.assertEqual(rows, ["1", "3", "4", "5", "6"], "row 7, which row 8 replaced, is not sent again")
            stored = {json.loads(line)["video_id"]: json.loads(line) for line in self.export().splitlines()}
            self.assertEqual(stored["ccccccccccc"]["title"], "video_id が11文字でない")
            self.assertTrue(stored["bbbbbbbbbb5"]["description"].startswith("second"))
            self.assertEqual(stored["bbbbbbbbbb7"]["url"], "https://www.youtube.com/")
            self.assertEqual(stored["bbbbbbbbbb7"]["description"], "<script>alert(1)</script>")

    def test_files_of_all_forms_and_encodings_are_imported(self):
        self.upload()
        lines = self.export().splitlines()
        whole = self.export()
        csv = send(self.base, "GET", "/holodules?format=csv")[1]
        for line in lines:
            send(self.base, "DELETE", f"/holodules/{json.loads(line)['video_id'] or json.loads(line)['key']}")
        array = '{"result":2,"holodules":[\n' + ",\n".join(lines) + "]}"
        in_cp932 = f"{csv.splitlines()[0].lstrip(chr(0xFEFF))}\r\n,{VIDEO},2020-12-09 23:00:00,獅白ぼたん,題名,,\r\n"
        for page in self.each("/page/transfer"):
            for name, data, count in (
                ("a.ndjson", whole.encode(), len(lines)),
                ("b.json", array.encode(), len(lines)),
                ("c.csv", csv.encode(), len(lines)),
                ("d.csv", csv.encode("utf-16"), len(lines)),
                ("e.CSV", in_cp932.encode("cp932"), 1),
            ):
                with tempfile.TemporaryDirectory() as folder:
                    file = Path(folder, name)
                    file.write_bytes(data)
                    page.drop("[data-drop]", file)
                    page.until_text("#import-result", f"{count}")
                    page.until("return document.getElementById('progress').hidden;")
                    self.assertNotIn("{", page.text("#import-result"))
                    if count > 1:
                        self.assertEqual(self.export(), whole, name)
            self.assertIn("獅白ぼたん", send(self.base, "GET", f"/page/record?id={VIDEO}")[1])

    def test_files_that_cannot_be_read_are_refused(self):
        for page in self.each("/page/transfer", refused=True):
            for name, data, message in (
                ("a.txt", b"x", "UNKNOWN_FILE"),
                ("a.csv", b"\xff\x00\x80", "NOT_TEXT"),
                ("a.csv", b"key\r\n", "NO_ROWS"),
                ("a.json", b"[]", "NO_ROWS"),
                ("a.json", b"{}", "NO_ARRAY"),
                ("a.json", b'{"more": 1}', "NO_ARRAY"),
                ("a.json", b"null", "NO_ARRAY"),
                ("a.json", ARRAY + b" GARBAGE " + ARRAY, "AFTER_ARRAY"),
                ("a.json", ARRAY + ARRAY, "AFTER_ARRAY"),
                ("a.json", b'{"holodules":' + ARRAY + b"}{}", "AFTER_ARRAY"),
                ("a.json", b'{"holodules":' + ARRAY + b',"holodules":' + ARRAY + b"}", "AFTER_ARRAY"),
            ):
                with tempfile.TemporaryDirectory() as folder:
                    file = Path(folder, name)
                    file.write_bytes(data)
                    page.drop("[data-drop]", file)
                    page.until_text("#import-result", self.say(message))
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, "other.csv")
                file.write_bytes(b"a,b\r\n1,2\r\n")
                page.drop("[data-drop]", file)
                page.until_text("#import-result", "使える列" if self.reasons else "the known ones are")
            self.assertEqual(self.export(), "")

    def test_exports_are_links(self):
        self.upload()
        for language in LANGUAGES:
            with self.subTest(language=language), self.page("/page/transfer", language) as page:
                links = page.run("return [...document.querySelectorAll('a[download]')].map(a => a.getAttribute('href'));")
                self.assertEqual(len(links), 4)
                for link in links:
                    status, body = send(self.base, "GET", link)
                    self.assertEqual((status, "獅白ぼたん" in body), (200, True), link)


if __name__ == "__main__":
    unittest.main()
