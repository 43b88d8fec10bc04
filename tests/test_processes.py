"""A process ends as it is asked to, with DVC, and in one sentence, whatever it lacks."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from conftest import PROJECT

from stages import LEAST_ADDRESSES, container_limits
from stages.common import threads
from stages.common.ending import ENDED_WITH_DVC, GRACE, find_dvc
from stages.common.files import atomic_write, leftovers
from stages.common.stage import run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are those of Unix")

# It writes half a file, says so, and waits: in Python, or in a library that does not return.
STAGE = """
import ctypes, subprocess, sys, time
from pathlib import Path
from stages.common.files import atomic_write
from stages.common.stage import run

def main():
    with atomic_write(Path("data/model")) as temporary:
        temporary.write_text("half")
        subprocess.Popen(["sleep", "60"])
        Path("ready").touch()
        if "library" in sys.argv:
            ctypes.CDLL(None).sleep.argtypes  # releases Python's lock, as NumPy does
            mutex = ctypes.create_string_buffer(256)
            while True:  # the second time, it waits for itself
                ctypes.CDLL(None).pthread_mutex_lock(mutex)
        time.sleep(60)
    return "done"

run("train", main)
"""
# A stand-in for DVC: it asks a shell to run the stage, and waits.
DVC = """
import os, subprocess, sys
shell, command = sys.argv[1], os.environ["COMMAND"]
process = subprocess.Popen([shell, "-c", command], env=os.environ | {"DVC_STAGE": "train"})
print(process.pid, flush=True)
process.wait()
"""
# Some shells let themselves be replaced by their last command, others wait for it.
COMMANDS = {
    "replaced": "exec python -m stage",
    "waits": "python -m stage; exit $?",
    "runs a script": "exec /bin/sh script",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a stage and a stand-in for DVC, whose processes are gone afterwards."""
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "dvc.py").write_text(DVC)
    (tmp_path / "script").write_text(COMMANDS["waits"])
    (tmp_path / "data").mkdir()
    (tmp_path / "data/model").write_text("old")
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.cwd() == str(tmp_path):
                process.kill()
        except psutil.Error:
            continue


def start(*command: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def start_dvc(command: str) -> subprocess.Popen:
    return start(sys.executable, "dvc.py", "/bin/sh", env=os.environ | {"COMMAND": command})


def wait_for(what, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.01)


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def only_the_old_file() -> bool:
    names = [path.name for path in Path("data").iterdir()]
    return names == ["model"] and Path("data/model").read_text() == "old"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_stage_with_a_sentence_and_the_old_file(folder, number):
    process = start(sys.executable, "-m", "stage")
    wait_for(Path("ready").exists)
    process.send_signal(number)
    _, messages = process.communicate(timeout=10)
    by = "Ctrl-C" if number == signal.SIGINT else number.name
    assert messages == f"[train] error: stopped by {by}\n"
    assert process.returncode == 128 + number
    assert only_the_old_file()


def test_a_signal_that_is_ignored_below_nohup_stays_so(folder):
    process = start("nohup", sys.executable, "-m", "stage", stdin=subprocess.DEVNULL)
    wait_for(Path("ready").exists)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=10)[1].endswith("[train] error: stopped by SIGTERM\n")


@pytest.mark.slow
def test_a_stage_ends_while_a_library_does_not_return(folder):
    process = start(sys.executable, "-m", "stage", "library")
    wait_for(Path("ready").exists)
    child = psutil.Process(process.pid).children()[0]
    process.send_signal(signal.SIGTERM)
    # Python's own handler waits for the library.
    _, messages = process.communicate(timeout=GRACE + 5)
    assert messages == "[train] error: stopped by SIGTERM\n"
    assert process.returncode == 128 + signal.SIGTERM
    assert only_the_old_file()
    wait_for(lambda: has_ended(child))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("shell", COMMANDS)
def test_a_stage_ends_when_dvc_has_ended(folder, shell, number):
    dvc = start_dvc(COMMANDS[shell])
    wait_for(Path("ready").exists)
    processes = psutil.Process(dvc.pid).children(recursive=True)
    assert len(processes) == (2 if shell == "replaced" else 3)
    dvc.send_signal(number)
    dvc.wait()
    psutil.wait_procs(processes, timeout=10)
    assert all(has_ended(process) for process in processes)
    assert dvc.stderr.read() == f"[train] error: {ENDED_WITH_DVC}\n"
    assert only_the_old_file()


class Ancestor:
    """A process above a stage: its words, its parent, and whether it is ending."""

    def __init__(self, words, parent=None, ends=False):
        self.words, self.above, self.ends = words, parent, ends

    def cmdline(self):
        return self.words

    def parent(self):
        return self.above

    def wait(self, timeout):
        if not self.ends:
            raise psutil.TimeoutExpired(timeout)


def test_dvc_that_ends_while_it_is_looked_for_is_not_taken_for_what_started_it():
    queue = Ancestor(["python", "-m", "celery"])
    dvc = Ancestor(["python", "-m", "dvc", "repro"], queue)
    assert find_dvc(Ancestor(["sh", "-c", "a command"], dvc)) is dvc
    assert find_dvc(Ancestor([], dvc)) is dvc  # a shell without words
    assert find_dvc(Ancestor(["sh"], Ancestor([], queue, ends=True))) is None
    assert find_dvc(Ancestor(["sh"])) is None


def test_a_stage_that_starts_as_an_orphan_ends(folder):
    dvc = start_dvc("sleep 0.3; exec python -m stage")
    assert dvc.stdout.readline()
    dvc.kill()
    assert dvc.stderr.read() == f"[train] error: {ENDED_WITH_DVC}\n"
    assert only_the_old_file()


def test_without_dvc_a_stage_outlives_what_started_it(folder, monkeypatch):
    (folder / "dvc.py").write_text(DVC.replace("DVC_STAGE", "NO_STAGE"))
    dvc = start_dvc(COMMANDS["replaced"])
    wait_for(Path("ready").exists)
    stage = psutil.Process(int(dvc.stdout.readline()))
    dvc.kill()
    time.sleep(0.3)
    assert stage.is_running()


def test_two_processes_that_write_one_file_do_not_mix_their_bytes(folder):
    path = Path("data/model")
    other = start(sys.executable, "-m", "stage")
    wait_for(Path("ready").exists)
    theirs = next(path for path in Path("data").iterdir() if path.name.endswith(".partial"))
    with atomic_write(path) as ours:
        ours.write_text("new")
        assert ours != theirs
    assert (path.read_text(), theirs.read_text()) == ("new", "half")
    other.kill()
    # It has ended, and its number is not free before it is waited for.
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    # It has left its half behind; the next one that writes the file takes that away.
    assert leftovers(path) == [theirs]
    other.wait()
    with atomic_write(path) as ours:
        ours.write_text("newer")
    assert list(Path("data").iterdir()) == [path]


def test_the_content_is_on_the_disk_before_it_takes_its_place(folder, monkeypatch):
    order = []
    sync, replace = os.fsync, Path.replace

    def fsync(number):
        order.append(f"flush {os.fstat(number).st_size} bytes")
        return sync(number)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", lambda *paths: (order.append("move"), replace(*paths)))
    with atomic_write(Path("data/model")) as temporary:
        temporary.write_text("new")
    assert order == ["flush 3 bytes", "move"]


def writes(path: str, content: bytes = bytes(10**6)):
    def main():
        with atomic_write(Path(path)) as temporary:
            temporary.write_bytes(content)
        return "written"

    return main


def sentence_of(main, capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        run("train", main)
    assert stopped.value.code == 1
    printed = capsys.readouterr().err
    assert printed.startswith("[train] error: ")
    assert printed.count("\n") == 1
    return printed.removeprefix("[train] error: ").strip()


@pytest.fixture
def small_disk(folder):
    """The folder `data` on a disk of its own, of 200 kB."""
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", "data"]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    Path("data/model").write_text("old")
    yield Path("data")
    subprocess.run(["umount", "data"], check=True)


def test_a_full_disk_is_named_with_the_file_and_leaves_the_old_one(small_disk, capsys):
    assert sentence_of(writes("data/model"), capsys) == (
        "data/model: No space left on device: make room on that disk, then run it again"
    )
    assert only_the_old_file()


def test_a_disk_that_may_only_be_read_is_named(small_disk, capsys):
    subprocess.run(["mount", "-o", "remount,ro", "data"], check=True)
    assert sentence_of(writes("data/model"), capsys) == (
        "data/model: Read-only file system: that disk may only be read: let it be written to, "
        "then run it again"
    )
    assert only_the_old_file()


def test_a_limit_of_the_size_of_files_is_named(folder, capsys):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        found = sentence_of(writes("data/model"), capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert found.startswith("data/model: File too large: raise the limit of the size of files")
    assert only_the_old_file()


def test_too_many_open_files_are_named(folder, capsys):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def main():
        with atomic_write(Path("data/model")) as temporary, temporary.open("w") as file:
            resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno() + 1, before[1]))
            Path("data/other").write_text("more")
        return "written"

    try:
        found = sentence_of(main, capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert found.startswith("data/other: Too many open files: raise the limit of open files")
    assert only_the_old_file()


@pytest.mark.parametrize(
    ("path", "start"),
    [
        ("data/folder", "data/folder: Is a directory: a folder is where a file should be"),
        ("data/model/file", "data/model: File exists: a file is where a folder should be"),
    ],
)
def test_a_folder_in_place_of_a_file_and_the_other_way_round_are_named(folder, capsys, path, start):
    Path("data/folder").mkdir()
    assert sentence_of(writes(path), capsys).startswith(start)
    assert list(Path("data").rglob("*.partial")) == []


def test_a_link_to_a_folder_elsewhere_is_followed(folder):
    Path("data").rename("elsewhere")
    Path("data").symlink_to("elsewhere")
    run("train", writes("data/model", b"new"))
    assert Path("elsewhere/model").read_bytes() == b"new"


@pytest.mark.skipif(sys.platform != "linux", reason="others do not keep to this limit")
@pytest.mark.parametrize("least", [100_000_000, 500_000_000, LEAST_ADDRESSES - 1])
def test_a_limit_of_memory_below_what_libraries_need_is_told_before_they_load(least):
    result = subprocess.run(
        [sys.executable, "-m", "stages.train"],
        cwd=PROJECT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (least, least)),
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert result.returncode == 1
    assert result.stderr == (
        f"error: this process may use {least / 1e6:,.0f} MB of memory (ulimit -v), and its "
        f"libraries need {LEAST_ADDRESSES / 1e6:,.0f} MB: raise that limit\n"
    )


@pytest.mark.parametrize(
    ("own", "file"),
    [
        ("0::/a/b\n", "a/b/memory.max"),
        ("0::/a/b\n", "a/memory.max"),
        ("5:cpu:/\n4:memory:/docker/x\n", "memory/memory.limit_in_bytes"),
        ("0::/../elsewhere\n", "memory.max"),
    ],
)
def test_limits_of_control_groups_are_read_up_to_the_outermost(tmp_path, own, file):
    (tmp_path / "own").write_text(own)
    path = tmp_path / "groups" / file
    path.parent.mkdir(parents=True)
    path.write_text("1000\n")
    assert dict(container_limits(tmp_path / "groups", tmp_path / "own")) == {path: 1000}
    path.write_text("max\n")
    assert dict(container_limits(tmp_path / "groups", tmp_path / "own")) == {}


@pytest.mark.parametrize(("addresses", "counts"), [(LEAST_ADDRESSES, [1, 1]), (None, [])])
def test_arrow_has_one_thread_where_addresses_are_limited(monkeypatch, addresses, counts):
    found = []
    for name in ("set_cpu_count", "set_io_thread_count"):
        monkeypatch.setattr(pa, name, found.append)
    monkeypatch.setattr(threads, "address_limit", lambda: addresses)
    threads.start_threads()
    assert found == counts


# Memory is asked for by NumPy, Arrow, and a thread.
ASKS = {
    "numpy": "import numpy; numpy.empty(10**12)",
    "arrow": "import pyarrow; pyarrow.allocate_buffer(10**15)",
    "python": "bytes(10**15)",
}


@pytest.mark.parametrize("asks", ASKS)
def test_too_little_memory_is_one_sentence(capsys, asks):
    found = sentence_of(lambda: exec(ASKS[asks]), capsys)
    assert found.startswith("there is too little memory: ")
    assert found.endswith("or raise the limit of the shell or the container, if it has one")


# It reads a table when there is no memory left for one more thread.
READS = """
import resource
import pyarrow as pa
import pyarrow.parquet as pq
from stages.common.stage import run

def main():
    pq.write_table(pa.table({"a": [1], "b": [2]}), "table.parquet")
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 6_000_000, used + 6_000_000))
    return f"{pq.read_table('table.parquet').num_rows} rows"

run("split", main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="others do not keep to this limit")
def test_a_table_is_read_when_memory_has_no_room_for_another_thread(folder):
    result = subprocess.run(
        [sys.executable, "-c", READS],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (LEAST_ADDRESSES,) * 2),
        capture_output=True,
        text=True,
        timeout=30,  # it would wait for ever
    )
    assert result.stdout.startswith("[split] 1 rows, "), result.stderr


@pytest.mark.parametrize(
    ("stop", "sentence"),
    [
        ("raise KeyboardInterrupt", "error: stopped by Ctrl-C"),
        (
            "raise ImportError('initialization failed') from KeyboardInterrupt()",
            "error: stopped by Ctrl-C",
        ),
        (
            "raise ImportError('x.so: failed to map segment from shared object')",
            "error: there is too little memory: x.so: failed to map segment from shared object: ",
        ),
    ],
)
def test_what_stops_a_process_while_it_imports_is_one_sentence(folder, stop, sentence):
    (folder / "library.py").write_text(stop)
    result = subprocess.run(
        [sys.executable, "-c", "import stages; import library"], capture_output=True, text=True
    )
    assert result.returncode != 0
    assert result.stderr.startswith(sentence)
    assert result.stderr.count("\n") == 1


def stops_while_it_loads(folder: Path, module: str, code: str) -> subprocess.CompletedProcess:
    """Start a stage that finds this code where it looks for a module."""
    (folder / f"{module}.py").write_text(code)
    return subprocess.run(
        [sys.executable, "-m", "stages.split"],
        env=os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{PROJECT}"},
        # A job in the background ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("module", ["platform", "typing", "pathlib"])
def test_ctrl_c_before_any_library_is_one_sentence(folder, module):
    """It comes while a module of Python loads that the first lines of the project import."""
    result = stops_while_it_loads(folder, module, "import os\nos.kill(os.getpid(), 2)\n")
    assert result.returncode != 0
    assert result.stderr == "error: stopped by Ctrl-C\n"


def test_ctrl_c_in_a_library_that_cannot_pass_it_on_is_one_sentence(folder):
    """NumPy and ONNX, in C, make it another error, or end the process with a trace."""
    lost = "try: os.kill(os.getpid(), 2)\nexcept BaseException: raise ImportError('x.so') from None"
    result = stops_while_it_loads(folder, "numpy", f"import os\n{lost}\n")
    assert result.returncode == 130
    assert result.stderr == "error: stopped by Ctrl-C\n"


SAYS = """
import sys
from stages.common.stage import log, run
run("split", lambda: (log("split", "\\u0141\\u00f3d\\u017a"), "done")[1])
"""


def say(options: str = "", **settings: str) -> subprocess.CompletedProcess:
    """Run a stage that logs a word outside ASCII, with redirections of the shell."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} -c '{SAYS}' {options}"],
        env=os.environ | settings,
        capture_output=True,
    )


def test_a_terminal_that_lacks_a_character_gets_its_number(folder):
    result = say(PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.startswith(b"[split] \\u0141\\xf3d\\u017a\n[split] done, ")
    assert say(LC_ALL="C").stdout.startswith("[split] Łódź\n".encode())


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_keep_no_stage_from_its_work(folder, closed):
    result = say(closed)
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("> /dev/full", "standard output: No space left on device: make room on that disk, "),
        ("| true", "standard output: Broken pipe: what should read it has ended: "),
    ],
)
def test_messages_that_cannot_be_printed_are_one_sentence(folder, options, sentence):
    (folder / "stage.py").write_text(f"import time; time.sleep(0.2)\n{SAYS}")
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m stage {options}"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr.startswith(f"[split] error: {sentence}")
    assert result.stderr.count("\n") == 1
    assert say("2> /dev/full > /dev/full").returncode == 1


def test_a_stage_in_another_folder_says_where_to_start(folder):
    result = subprocess.run([sys.executable, "-m", "stages.split"], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == (
        f"[split] error: there is no params.yaml in {folder}: start the stage in the project's "
        "folder\n"
    )
