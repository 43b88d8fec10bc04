"""Open the raw table, whichever kind of file it is.

A `CsvFile` and a `ParquetFile` both have the names of the columns, give record batches,
and know how far they are.
"""

from pathlib import Path

from stages.common.errors import PipelineError
from stages.parser.csv_file import CsvFile, CsvForm
from stages.parser.parquet_file import ParquetFile

RawFile = CsvFile | ParquetFile


def open_raw(path: Path, form: CsvForm) -> RawFile:
    """Open a Parquet file, or a CSV file which may be packed with gzip or zstd, by its name.

    `form` says how a CSV file is written.

    Raises PipelineError for a file that is empty or not what its name says.
    """
    if path.stat().st_size == 0:
        raise PipelineError(f"{path} is empty")
    return ParquetFile(path) if path.suffix == ".parquet" else CsvFile(path, form)
