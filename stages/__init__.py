"""The stages of the pipeline, one script each, and the modules they share.

`python -m stages.<stage>` imports this file before anything else. It is the one
place where threads and processor kernels are fixed, which must happen before
NumPy loads: the last bits of a matrix product depend on both, and the same
input has to give the same bytes on the next machine. It is also where a process is
told what keeps it from starting, such as too little memory.
"""

import os
import sys
import time
import types

# When no script had been read yet but this one, in seconds of the epoch.
STARTED = time.time()
STOPPED = "error: stopped by Ctrl-C"
NO_MEMORY = "close other programs, or raise the limit of the shell or the container, if it has one"


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory for an array, a thread or a library."""
    signs = (
        "bad_alloc",
        "bad allocation",
        "cannot allocate memory",
        "can't start new thread",
        "failed to launch worker thread",
        "failed to map segment",
    )
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in signs)


def _tell(
    kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
) -> None:
    """Say in one sentence what stops the process while it imports its libraries."""
    chain: list[BaseException] = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(before)
    # A library in C that is loading turns Ctrl-C into an error of its own.
    if any(isinstance(one, KeyboardInterrupt) for one in chain):
        print(STOPPED, file=sys.stderr)
    elif out_of_memory(error):
        print(f"error: there is too little memory: {error}: {NO_MEMORY}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# From here on, also while the first modules load that are not loaded with Python itself.
sys.excepthook = _tell

import platform  # noqa: E402
import signal  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TextIO  # noqa: E402


def _end(*_: object) -> None:
    """End at once, without the exception that some libraries in C++ cannot pass on."""
    try:
        os.write(2, f"{STOPPED}\n".encode())
    finally:
        os._exit(130)


# While Python looks for the script of `python -m` there is nothing to tidy up yet, and then `run`
# has its own way to end. What is ignored stays so.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)

# What the libraries need, in bytes: addresses that they reserve, memory that they fill. OpenBLAS
# that finds no addresses while it loads tries again for ever, and lets no signal through.
LEAST_ADDRESSES, LEAST_MEMORY = 3_000_000_000, 400_000_000

# One thread for linear algebra: with more, sums are split by the number of cores.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
# XGBoost takes all cores, with the same trees; a limit from outside would take them away.
for _limit in ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT"):
    os.environ.pop(_limit, None)
os.environ["OMP_DYNAMIC"] = "false"
# Waiting threads sleep: spinning ones slow XGBoost many times over on a busy machine.
os.environ["OMP_WAIT_POLICY"] = "passive"


def has_avx2(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether an x86-64 processor has AVX2, as Linux tells; other systems are not asked."""
    try:
        with cpuinfo.open(encoding="utf-8") as file:
            first = file.read(8192)  # one core: they are alike
    except OSError:
        return True
    return "avx2" in first.split()


if platform.machine() in ("x86_64", "AMD64") and has_avx2():
    # The kernels for AVX2, which nearly all x86-64 processors of the last ten years
    # run, instead of those that OpenBLAS and NumPy pick for the processor at hand.
    os.environ["OPENBLAS_CORETYPE"] = "Haswell"
    os.environ["OPENBLAS_L2_SIZE"] = "512"  # kilobytes; it steers how products are cut in blocks
    os.environ.pop("NPY_ENABLE_CPU_FEATURES", None)  # NumPy refuses to load with both
    os.environ["NPY_DISABLE_CPU_FEATURES"] = "X86_V4 AVX512_ICL AVX512_SPR"


def address_limit() -> int | None:
    """To how many bytes the addresses of this process are limited (`ulimit -v`), if they are."""
    try:
        import resource
    except ImportError:  # no such limits
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def container_limits(
    groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> Iterator[tuple[Path, int]]:
    """The files that limit the memory of the containers around this process, and to how many bytes.

    They are those of control groups, which Linux alone has.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:  # 0::/group of version 2, 5:memory:/group of version 1
        _, kinds, group = (*line.split(":", 2), "", "")[:3]
        if kinds not in ("", "memory") or not group:
            continue
        root = groups / kinds
        inner = root / group.strip("/")
        for folder in (inner, *inner.parents):
            file = folder / ("memory.limit_in_bytes" if kinds else "memory.max")
            if folder.is_relative_to(root) and file.is_file():
                value = file.read_text(encoding="utf-8").strip()
                if value.isdigit():  # not `max`
                    yield file, int(value)


def _check_memory() -> None:
    limits: list[tuple[str | Path, int, int]] = []
    if (addresses := address_limit()) is not None:
        limits.append(("ulimit -v", addresses, LEAST_ADDRESSES))
    limits += [(file, value, LEAST_MEMORY) for file, value in container_limits()]
    for name, value, least in limits:
        if value < least:
            sys.exit(
                f"error: this process may use {value / 1e6:,.0f} MB of memory ({name}), and its "
                f"libraries need {least / 1e6:,.0f} MB: raise that limit"
            )


def unread_stream() -> TextIO:
    """A stream for messages that nobody reads."""
    return Path(os.devnull).open("w", encoding="utf-8")


def _open_streams() -> None:
    """Give a process whose standard streams are closed others, which nobody reads.

    The next file that it opens would be taken for one of them, and messages would end up there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = sys.stdout or unread_stream()
    sys.stderr = sys.stderr or unread_stream()


_open_streams()
_check_memory()
