"""Everything that srec raises on purpose.

    SrecError
    ├── InputError            what the user gave cannot be used: a value, a file, a row
    │   ├── DatasetError      a dataset folder, one of its files or rows
    │   ├── ImageError        one image: broken, too large, outside its folder
    │   ├── CandidateError    a candidate or run file, or a candidate set
    │   ├── ProgramError      a saved program: damaged, missing, or made for other signatures
    │   └── StageError        a stage of your own returned what it may not
    ├── LeakageError          something from the future of a case reached it
    ├── ModelError            a model string, its weights or its server
    │   ├── MissingPackage    a package that srec does without, until it is needed, is not here
    │   └── VerbalizerError   the tokenizer cannot tell the answers apart
    ├── AnswerError           an LM answered, but not with what was asked for
    └── StoreError            the store cannot be read or written

The message of each says what is wrong, which thing it is, and what to do about it.
"""

from __future__ import annotations


class SrecError(Exception):
    """Root of every error that srec raises on purpose."""


class InputError(SrecError):
    """What the user gave cannot be used."""


class DatasetError(InputError):
    """A dataset folder, one of its files or one of its rows cannot be used."""


class ImageError(InputError):
    """One image cannot be used; `cause` says why in words that are the same for every image of a class."""

    def __init__(self, message: str, *, cause: str = "unusable image") -> None:
        super().__init__(message)
        self.cause = cause


class CandidateError(InputError):
    """A candidate file, a run file or a set of candidates cannot be used."""


class ProgramError(InputError):
    """A saved program cannot be used: damaged, missing, or made for other signatures."""


class StageError(InputError):
    """A stage of your own returned what it may not: a bug that fails every case alike."""


class LeakageError(SrecError):
    """Something from the future of a case reached the case."""


class ModelError(SrecError):
    """A model string, a model's weights or a model server cannot be used."""


class MissingPackage(ModelError):
    """A package that one of srec's extras installs, or that the command `install` does, is not installed."""

    def __init__(self, package: str, *, extra: str = "", install: str = "") -> None:
        command = install or f"pip install '.[{extra}]' (in srec's folder)"
        super().__init__(f"{package!r} is not installed; run: {command}")
        self.package = package
        self.extra = extra


class VerbalizerError(ModelError):
    """The tokenizer cannot tell the answers of a yes/no question apart."""


class AnswerError(SrecError):
    """An LM answered, but not with what was asked for."""


class StoreError(SrecError):
    """The store of results cannot be read or written."""
