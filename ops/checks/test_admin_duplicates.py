#!/usr/bin/env python3
"""The view Duplicates of the admin page in headless Chromium, with documents in MongoDB that share a video."""

import json
import sys
import time
import unittest

from admin_page import LANGUAGES, VIDEO, PageTests, send
from browser import SECONDS
from original.service import LIBRARIES, install_libraries
from support import ROOT, child, enter


class Duplicates(PageTests):
    def test_one_of_several_documents_of_a_video_is_deleted(self):
        install_libraries()
        sys.path.insert(0, str(LIBRARIES))
        import pymongo

        url = enter(self.addCleanup, child([ROOT / "ops/mongod", "run"]))
        documents = enter(self.addCleanup, pymongo.MongoClient(url)).get_default_database().holodules
        # Only their ids are different.
        same = {"key": "HL0503_20201209_230000", "video_id": VIDEO, "datetime": "20201209 230000", "title": "同じ"}
        documents.insert_many([{**same, "_id": name} for name in ("a", "b", "c", "d")])
        self.start(STORE=url)
        deadline = time.monotonic() + SECONDS
        while "\nbackend_duplicate_video_ids 1\n" not in send(self.base, "GET", "/metrics")[1]:
            self.assertLess(time.monotonic(), deadline, "the duplicates are not counted")
            time.sleep(0.05)
        remaining = {"a", "b", "c", "d"}
        for language in LANGUAGES:
            with self.page("/page/duplicates", language, refused=True) as page:
                self.texts = json.loads(page.run("return document.body.dataset.texts;"))
                self.assertEqual(page.run("return document.querySelectorAll('.entry').length;"), len(remaining))
                chosen = page.run("return document.querySelectorAll('[data-duplicate-delete]')[1].dataset.duplicateDelete;")
                page.focus(f'[data-duplicate-delete="{chosen}"]')
                page.press("Enter")
                page.until_text("#confirm-text", self.say("DELETE_DUPLICATE", id=chosen))
                page.focus("#confirm [type=submit]")
                page.press("Enter")
                page.until_text("#toasts", self.say("DUPLICATE_DELETED", id=chosen))
                remaining.remove(sorted(remaining)[1])
                self.assertEqual(set(documents.distinct("_id")), remaining)
                self.assertEqual(page.run("return document.querySelectorAll('.entry').length;"), len(remaining))


if __name__ == "__main__":
    unittest.main()
