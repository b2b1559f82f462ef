"""On a signal, a run stops everything that it has started, as at its normal end."""

import signal
import sys

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def on_a_signal():
    """From here on, SIGINT, SIGTERM and SIGHUP exit every context. Further signals do not interrupt that."""
    for number in ENDING:
        signal.signal(number, leave)


def leave(number, _frame):
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)
