"""What `dataset.toml` says of a dataset folder."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from srec.data.tables import Table
from srec.errors import DatasetError


class Columns(BaseModel):
    """What the folder's tables call the columns that srec knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    item_id: str = "item_id"
    title: str = "title"
    image: str = "image"
    user_id: str = "user_id"
    timestamp: str = "timestamp"
    rating: str = "rating"

    def optional(self, name: str, table: Table) -> str | None:
        """The column's own name, None where the table lacks it; DatasetError if it lacks one that was renamed."""
        column: str = getattr(self, name)
        if name in self.model_fields_set:
            table.require([column])
        return column if column in table.columns else None


class Expected(BaseModel):
    """What a dataset must have, counted as `srec.data.statistics` counts it; None for what is not said."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    users: int | None = None
    items: int | None = None
    interactions: int | None = None

    def check(self, *, users: int, items: int, interactions: int) -> None:
        """Raise DatasetError where the counts are others: rows are missing, or it is another version of the data."""
        for name, found in (("users", users), ("items", items), ("interactions", interactions)):
            wanted: int | None = getattr(self, name)
            if wanted is not None and wanted != found:
                raise DatasetError(
                    f"dataset.toml expects {wanted:,} {name}, {found:,} can be used; look for rows that were rejected, "
                    "or correct [expected]"
                )


class Settings(BaseModel):
    """The folder's `dataset.toml`, which may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = ""
    rating_threshold: float | None = Field(default=None, allow_inf_nan=False)
    columns: Columns = Columns()
    expected: Expected = Expected()

    @classmethod
    def read(cls, path: Path) -> Settings:
        """The settings in a file, the defaults if there is none."""
        try:
            return cls.model_validate(tomllib.loads(path.read_text("utf-8")) if path.exists() else {})
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise DatasetError(f"{path.name}: {key}: {first['msg']}; known are {_known()}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise DatasetError(f"{path.name} cannot be read: {error}; write it as TOML in UTF-8") from error


def _known() -> str:
    columns, expected = ", ".join(Columns.model_fields), ", ".join(Expected.model_fields)
    return f"name, rating_threshold, under [columns] {columns}, and under [expected] {expected}"
