"""A signal ends a run as its end does: what it has started is ended as well."""

import signal
import sys

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def on_a_signal():
    """Lets SIGINT, SIGTERM and SIGHUP leave every context from here on. What is under way then is not interrupted again."""
    for number in ENDING:
        signal.signal(number, leave)


def leave(number, _frame):
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)
