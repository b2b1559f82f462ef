"""The fuzz targets: the manifest, the runner, the seeds, the tests and the page name the same ones."""

import re
import subprocess
import unittest

from support import ROOT

FUZZ = ROOT / "ops/fuzz"


class Targets(unittest.TestCase):
    def test_every_place_names_the_same_targets(self):
        run = [FUZZ / "run", "--list"]
        listed = subprocess.run(run, capture_output=True, text=True, check=True, timeout=30).stdout.split()
        self.assertGreater(len(listed), 5)
        self.assertEqual(listed, re.findall(r"^\| `(\w+)` \|", (FUZZ / "README.md").read_text(), re.MULTILINE))
        manifest = (FUZZ / "Cargo.toml").read_text()
        self.assertEqual(sorted(listed), sorted(re.findall(r'^path = "targets/(\w+)\.rs"$', manifest, re.MULTILINE)))
        self.assertEqual(sorted(listed), sorted(path.stem for path in (FUZZ / "targets").glob("*.rs")))
        self.assertEqual(sorted(listed), sorted(path.name for path in (FUZZ / "seeds").iterdir()))
        tests = "".join((ROOT / crate / "tests/it/fuzz/mod.rs").read_text() for crate in ("gateway", "backend"))
        self.assertEqual(sorted(listed), sorted(re.findall(r"^mod (\w+);$", tests, re.MULTILINE)))

    def test_an_unknown_target_is_an_error(self):
        refused = subprocess.run([FUZZ / "run", "nothing"], capture_output=True, text=True, check=False, timeout=30)
        self.assertEqual((refused.returncode, refused.stdout), (2, ""))
        self.assertIn("no target of the name nothing", refused.stderr)


if __name__ == "__main__":
    unittest.main()
