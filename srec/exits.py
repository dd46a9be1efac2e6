"""How a command line ends: a sentence on standard error and an exit code, never a traceback.

Exit code 2 is for what was typed or given, 1 for what failed on the way, 130 for Ctrl-C. `SREC_DEBUG=1` shows the
traceback and all warnings instead.
"""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from srec.errors import InputError, SrecError
from srec.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
UsageError: type[Exception] = typer.BadParameter.mro()[1]  # typer has a click of its own or uses the package's


class Verbs(TyperGroup):
    """The group of verbs, whose errors are sentences and exit codes."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run one command line and exit with its code."""
        with _plain_warnings(), _sentences():
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
            if code == INTERRUPTED:  # what newer typers make of Ctrl-C
                raise KeyboardInterrupt
            sys.stdout.flush()
            raise SystemExit(code if isinstance(code, int) else 0)


def notice(sentence: str) -> None:
    """One line on standard error, whatever the sentence holds."""
    sys.stderr.write(f"srec: {clean(sentence)}\n")


@contextmanager
def _sentences() -> Iterator[None]:
    """Errors as one sentence on standard error and an exit code."""
    if os.environ.get("SREC_DEBUG") == "1":
        yield
        return
    try:
        yield
    except SystemExit:
        raise
    except (KeyboardInterrupt, typer.Abort):
        code, sentence = INTERRUPTED, "stopped; what was finished is kept in the store, if there is one"
    except (UsageError, InputError) as error:
        code, sentence = BAD_INPUT, getattr(error, "format_message", error.__str__)()
    except SrecError as error:
        code, sentence = FAILED, str(error)
    except BrokenPipeError:
        _drop_output()
        raise SystemExit(FAILED) from None
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        code, sentence = FAILED, f"{what}{error.strerror or error} (SREC_DEBUG=1 shows where)"
        _drop_output()
    except _lm_errors() as error:
        code, sentence = FAILED, f"{type(error).__name__}: {error}"
    else:
        return
    notice(sentence)
    raise SystemExit(code)


def _drop_output() -> None:
    """What standard output still holds goes nowhere, if it cannot be written, or Python would say so when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _lm_errors() -> tuple[type[Exception], ...]:
    """DSPy's, looked up only once something else than the above was raised."""
    from dspy.utils.exceptions import AdapterParseError, LMError  # noqa: PLC0415

    return LMError, AdapterParseError


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings of srec as one plain line, each once; those of other libraries are for developers."""
    told: set[str] = set()

    def tell(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if category.__module__.startswith("srec.") and str(message) not in told:
            told.add(str(message))
            notice(str(message))

    if os.environ.get("SREC_DEBUG") == "1":
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = tell
        yield
