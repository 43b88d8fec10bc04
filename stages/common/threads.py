"""Start the threads of Arrow while there are addresses for them."""

import sys
import tempfile
from pathlib import Path

from stages import address_limit


def start_threads() -> None:
    """Below a limit of addresses, give Arrow one thread to read and one to compute, and start them.

    It starts them when they are first needed, and where there are no addresses for one then, it
    waits for that thread for ever. A limit of memory, such as a container's, keeps none from
    starting: a thread that starts fills hardly any. Nothing is done where Arrow is not loaded.
    """
    if "pyarrow" not in sys.modules or address_limit() is None:
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        pq.write_table(pa.table({"a": [1], "b": [2]}), path)
        pq.read_table(path)
