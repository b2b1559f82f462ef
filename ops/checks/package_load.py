"""The client of test_package, which runs in the network of its machine.

package_load.py TOKEN     prints "running", and once a line arrives on its standard input, the results as JSON
"""

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "torture"))

from counting import Counting, Load, Target

CA = Path(__file__).resolve().parents[2] / "certs/dev/ca.pem"
BEFORE = 50  # answered requests before the change
AFTER = 2.0  # seconds of load after it, in which old processes drain


def main():
    target = Target(443, "/holodules/20201209", token=sys.argv[1], ca=str(CA))
    with Counting(target, Load(keepalive=4, new=1, http2=1, concurrent=2, pause=0.01)) as client:
        while client.answered < BEFORE:
            time.sleep(0.02)
        print("running", flush=True)
        sys.stdin.readline()
        time.sleep(AFTER)
    report = client.report
    lost = report.total("losses")
    refused = len(report.failed()) - lost
    print(json.dumps({"answered": report.answered(200), "lost": lost, "refused": refused, "table": report.table()}))


if __name__ == "__main__":
    main()
