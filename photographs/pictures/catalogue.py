"""What is known of photographs beside their pictures: a table with a row for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from photographs.pictures.places import shown_name
from stages.common.stage import PipelineError, shorten

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

    @property
    def schema(self) -> pa.Schema:
        """The columns, without the embedding."""
        return self.table.schema

    def rows(self, image_files: list[str]) -> pa.Table:
        """The rows of these image files, in their order."""
        return self.table.take(pa.array([self.places[name] for name in image_files], pa.int64()))


def read_catalogue(path: Path, names: Mapping[str, str]) -> Catalogue:
    """Read a CSV or Parquet file. `names` says what it calls columns of the course's table.

    Raises PipelineError when it can't be read, lacks the image file, or names one twice.
    """
    try:
        table = _read(path, names)
    except FileNotFoundError:
        raise PipelineError(f"there is no catalogue {path}") from None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError) as error:
        raise PipelineError(
            f"{path} can't be read as a catalogue: {shorten(str(error), 160)}"
        ) from None
    if IMAGE_FILE not in table.column_names:
        raise PipelineError(
            f"{path} has no column `{IMAGE_FILE}`; it has {', '.join(table.column_names[:12])}: "
            f'say which one names the photographs, --column "{IMAGE_FILE}=..."'
        )
    absent = [name for name in COLUMNS if name not in table.column_names]
    for name in absent:
        table = table.append_column(name, pa.nulls(len(table), COLUMNS[name]))
    further = [name for name in table.column_names if name not in COLUMNS]
    table = table.select([*COLUMNS, *further])
    files = [shown_name(name or "") for name in table.column(IMAGE_FILE).to_pylist()]
    places: dict[str, int] = {}
    for place, name in enumerate(files):
        if not name:
            raise PipelineError(f"{path}: the row {place + 1} has no `{IMAGE_FILE}`")
        if name in places:
            raise PipelineError(
                f"{path} names {shorten(name)} in the rows {places[name] + 1} and {place + 1}: "
                "each photograph needs one row"
            )
        places[name] = place
    table = table.set_column(0, IMAGE_FILE, pa.array(files, pa.string()))
    return Catalogue(table, places)


def catalogue_of_files(image_files: list[str], label_from_folder: bool) -> Catalogue:
    """A row for each photograph, in which nothing is known, or its label, its folder's name."""
    labels = [PurePosixPath(name).parent.name or None for name in image_files]
    table = pa.table(
        {
            name: pa.array(image_files, type_)
            if name == IMAGE_FILE
            else pa.array(labels, type_)
            if name == MEDIUM and label_from_folder
            else pa.nulls(len(image_files), type_)
            for name, type_ in COLUMNS.items()
        }
    )
    return Catalogue(table, {name: place for place, name in enumerate(image_files)})


def _read(path: Path, names: Mapping[str, str]) -> pa.Table:
    with path.open("rb") as file:
        is_parquet = file.read(4) == b"PAR1"
    theirs = {names.get(name, name): (name, type_) for name, type_ in COLUMNS.items()}
    if is_parquet:
        table = pq.read_table(path)
    else:
        types = {called: type_ for called, (_, type_) in theirs.items()}
        table = pyarrow.csv.read_csv(
            path,
            # A text may go over several lines.
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types, strings_can_be_null=True
            ),
        )
    for name, called in names.items():
        if called not in table.column_names:
            raise PipelineError(
                f"{path} has no column `{called}` for --column {name}; it has "
                f"{', '.join(table.column_names[:12])}"
            )
    table = table.rename_columns(
        [theirs[name][0] if name in theirs else name for name in table.column_names]
    )
    if len(set(table.column_names)) < len(table.column_names):
        raise PipelineError(f"{path} has two columns of one name")
    for place, name in enumerate(table.column_names):
        if name in COLUMNS:
            column = table.column(place).cast(COLUMNS[name])
            table = table.set_column(place, name, column)
    return table
