"""Read the bytes of a raw file, unpacked, and refuse a file that grows too much."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages.common.errors import PipelineError

# Embeddings shrink to a half or a tenth when they are packed. What grows by more than this
# when it is unpacked, and to more than so many bytes, was made to fill the memory or the disk.
MOST_EXPANSION = 200
EXPANSION_FREE_BYTES = 1 << 28
# How the names of packed CSV files end, and what they are packed with.
PACKED = {".gz": "gzip", ".zst": "zstd"}


def check_expansion(path: Path, unpacked: int, packed: int) -> None:
    """Raises PipelineError where `packed` bytes of a file became far too many `unpacked` ones."""
    if unpacked > max(EXPANSION_FREE_BYTES, MOST_EXPANSION * packed):
        raise PipelineError(
            f"{path} grows to more than {unpacked / 1e6:,.0f} MB when it is unpacked, over "
            f"{MOST_EXPANSION} times its size: no table of embeddings does, it is refused"
        )


class UnpackedFile(io.RawIOBase):
    """The bytes of a file, unpacked; `position` counts those of the file itself that were read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = pa.OSFile(str(path))
        kind = PACKED.get(path.suffix)
        self._unpacked = pa.CompressedInputStream(self._file, kind) if kind else self._file
        self._count = 0
        self.position = 0

    def readable(self) -> bool:
        return True

    def read_block(self, size: int) -> bytes:
        """So many bytes; fewer at the end of the file.

        Raises OSError for a packed file that is cut off or damaged, PipelineError for one that
        grows too much.
        """
        block = self._unpacked.read(size)
        while len(block) < size and (more := self._unpacked.read(size - len(block))):
            block += more
        self.position = self._file.tell()
        self._count += len(block)
        check_expansion(self._path, self._count, self.position)
        return block

    def readinto(self, buffer: Any) -> int:
        block = self.read_block(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._file.close()
        super().close()
