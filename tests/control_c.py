"""A child that hears Ctrl-C, wherever the tests were started from."""

import signal


def hear_control_c():
    """A program started by one in the background may have SIGINT ignored; Ctrl-C must reach this one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
