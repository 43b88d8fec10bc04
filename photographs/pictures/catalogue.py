"""What is known of photographs beside their pictures: a table with a row for each."""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from photographs.pictures.places import MOST_BYTES, shown_name
from stages.common.errors import PipelineError, shorten
from stages.sources.store import check_store, copy_from_store

IMAGE_FILE, MEDIUM, SUBSET = "Image file", "Medium", "Subset"
WIDTH, HEIGHT, PRODUCT, ASPECT = "Width", "Height", "Product size", "Aspect ratio"
# The columns of the course's table beside the embedding, and their types there.
COLUMNS = {
    IMAGE_FILE: pa.string(),
    MEDIUM: pa.string(),
    "Museum": pa.string(),
    "Museum-based instance ID": pa.string(),
    SUBSET: pa.string(),
    WIDTH: pa.float64(),  # pixels, as those below
    HEIGHT: pa.float64(),
    PRODUCT: pa.float64(),  # width x height
    ASPECT: pa.float64(),  # width / height
}


@dataclass(frozen=True)
class Catalogue:
    """The columns of the course's table, and further ones, of rows that are known by image file."""

    table: pa.Table
    places: dict[str, int]  # of the rows, by image file
    unnamed: list[int] = field(default_factory=list)  # the places of rows without an image file

    @property
    def schema(self) -> pa.Schema:
        """The columns, without the embedding."""
        return self.table.schema

    def alike(self) -> list[tuple[str, str]]:
        """The course's columns that are empty, each with a further one whose name is alike."""
        return [
            (name, column)
            for name in COLUMNS
            for column in self.table.column_names
            if column not in COLUMNS
            and column.casefold() == name.casefold()
            and self.table.column(name).null_count == len(self.table)
        ]

    def rows(self, image_files: list[str]) -> pa.Table:
        """The rows of these image files, in their order."""
        return self.table.take(pa.array([self.places[name] for name in image_files], pa.int64()))


def read_catalogue(path: Path | str, names: Mapping[str, str]) -> Catalogue:
    """Read a CSV or Parquet file. `names` says what it calls columns of the course's table.

    It is a path, or the URL of a file in a store.

    The other columns keep their names. Of a CSV file they are texts, as they stand there: 007
    stays 007. An empty field, and one that says NA, null or nan, is missing.

    Raises PipelineError when it cannot be read, lacks the image file, or names one twice.
    """
    if isinstance(path, str):
        return _read_from_store(path, names)
    if path.exists() and not (path.is_file() or path.is_dir()):
        # A pipe would be waited for, and some devices have no end.
        raise PipelineError(f"{path} is no file: write what comes out of it to one, and give that")
    try:
        table = _read(path, names)
    except FileNotFoundError:
        raise PipelineError(f"there is no catalogue {path}") from None
    except UnicodeError:
        raise PipelineError(f"{path} is not UTF-8: save it as CSV in UTF-8") from None
    except (pa.ArrowException, csv.Error, OSError) as error:
        hint = ": save it as CSV in UTF-8" if "UTF8" in str(error) else ""
        raise PipelineError(
            f"{path} cannot be read as a catalogue: {shorten(str(error), 160)}{hint}"
        ) from None
    absent = [name for name in COLUMNS if name not in table.column_names]
    for name in absent:
        table = table.append_column(name, pa.nulls(len(table), COLUMNS[name]))
    further = [name for name in table.column_names if name not in COLUMNS]
    table = table.select([*COLUMNS, *further])
    files = [shown_name(name or "") for name in table.column(IMAGE_FILE).to_pylist()]
    places: dict[str, int] = {}
    unnamed = [place for place, name in enumerate(files) if not name]
    for place, name in enumerate(files):
        if not name:
            continue
        if name in places:
            raise PipelineError(
                f"{path} names {shorten(name)} in the rows {places[name] + 1} and {place + 1}: "
                "each photograph needs one row"
            )
        places[name] = place
    table = table.set_column(0, IMAGE_FILE, pa.array(files, pa.string()))
    return Catalogue(table, places, unnamed)


def _read_from_store(url: str, names: Mapping[str, str]) -> Catalogue:
    check_store(url)
    with TemporaryDirectory() as folder:
        copy = Path(folder) / PurePosixPath(url).name
        try:
            copy_from_store(url, copy, MOST_BYTES)
        except PipelineError as error:
            raise PipelineError(f"{url}: {error}") from None
        try:
            return read_catalogue(copy, names)
        except PipelineError as error:
            raise PipelineError(str(error).replace(str(copy), url)) from None


def catalogue_of_files(image_files: list[str], label_from_folder: bool) -> Catalogue:
    """A row for each photograph, in which nothing is known, or its label, its folder's name."""
    columns = {name: pa.nulls(len(image_files), type_) for name, type_ in COLUMNS.items()}
    columns[IMAGE_FILE] = pa.array(image_files, pa.string())
    if label_from_folder:
        labels = [PurePosixPath(name).parent.name or None for name in image_files]
        columns[MEDIUM] = pa.array(labels, pa.string())
    return Catalogue(pa.table(columns), {name: place for place, name in enumerate(image_files)})


def _read(path: Path, names: Mapping[str, str]) -> pa.Table:
    """The catalogue with the course's names, and the course's types in the course's columns."""
    with path.open("rb") as file:
        is_parquet = file.read(4) == b"PAR1"
    columns = pq.read_schema(path).names if is_parquet else _header(path)
    new = _new_names(path, columns, names)
    if is_parquet:
        table = pq.read_table(path)
    else:
        types = {column: COLUMNS.get(name, pa.string()) for column, name in new.items()}
        table = pyarrow.csv.read_csv(
            path,
            # A text may go over several lines.
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types, strings_can_be_null=True
            ),
        )
    table = table.rename_columns([new[column] for column in table.column_names])
    for place, name in enumerate(table.column_names):
        if name in COLUMNS:
            table = table.set_column(place, name, _cast(path, table, name))
    return table


def _header(path: Path) -> list[str]:
    """The names of a CSV file's columns."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        names = next(csv.reader(file), [])
    for other in (";", "\t"):
        if len(names) == 1 and other in names[0]:
            raise PipelineError(
                f"{path} has {'semicolons' if other == ';' else 'tabs'} between its columns: save "
                "it with commas"
            )
    return names


def _new_names(path: Path, columns: list[str], names: Mapping[str, str]) -> dict[str, str]:
    """The course's name of each column of a catalogue that has one there, else its own.

    Raises PipelineError when that is not one name for each, or `names` or the image file's column
    is amiss.
    """
    shown = ", ".join(shorten(column, 40) for column in columns[:12])
    for name, called in names.items():
        if name not in COLUMNS:
            raise PipelineError(f"`{name}` is none of the columns {', '.join(COLUMNS)}")
        if called not in columns:
            raise PipelineError(f"{path} has no column `{called}` to be the {name}; it has {shown}")
    new = {column: column for column in columns}
    new |= {called: name for name, called in names.items()}
    if IMAGE_FILE not in new.values():
        raise PipelineError(
            f"{path} has no column `{IMAGE_FILE}`; it has {shown or 'none'}: "
            f'say which one names the photographs, by --column "{IMAGE_FILE}=...", or by '
            "`embed.columns` in photographs/params.yaml"
        )
    for counts, which in (
        (Counter(columns), "has {} columns called `{}`"),
        (Counter(names.values()), "has one column `{1}` for {0} columns of the table"),
        (Counter(new.values()), "has {} columns that would be called `{}`"),
    ):
        name, count = counts.most_common(1)[0] if counts else ("", 1)
        if count > 1:
            raise PipelineError(f"{path} {which.format(count, shorten(name))}: rename one")
    return new


def _cast(path: Path, table: pa.Table, name: str) -> pa.ChunkedArray:
    try:
        return table.column(name).cast(COLUMNS[name])
    except pa.ArrowException as error:
        raise PipelineError(
            f"{path}: the column `{name}` cannot be used: {shorten(str(error), 120)}"
        ) from None
