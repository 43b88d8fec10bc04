"""Disturb runs of the pipeline at random, and see whether they come right again.

    python -m scripts.soak --rounds 200 --seed 0

It clones the last commit to a temporary folder, with a cache of its own, and runs the pipeline
there once, undisturbed. Then each round forgets the results of one stage, runs `dvc repro`, and
does one harm to it: what, where and when is drawn by the seed and the number of the round.
Afterwards it does what docs/reliability.md says: `dvc repro`, and where that is not enough,
`python -m commands.check --mend` and `dvc repro` again. A round is right when dvc.lock and all
results have the bytes of the undisturbed run, Git sees no change, and no temporary file and no
process is left. The table at the end counts; a round that fails says how to see it again.

Small disks need root on Linux; without it, limits on the size of files stand in for them.
"""

import argparse
import http.server
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil
from ruamel.yaml import YAML

from commands.verify import clean_settings, clone_commit
from scripts.params import set_params
from stages.common.errors import PipelineError
from stages.common.files import file_digest
from stages.common.stage import log, run

STAGE = "soak"
RESULTS = ("data", "models", "reports")
REPRO, MEND = ("dvc", "repro"), ("commands.check", "--mend")
# Seconds after which a process that should have ended is one that hangs.
PATIENCE = 600
# A parameter of each stage, and another value for it.
PARAMETERS = {
    "download": ("download.synthetic.seed", 30),
    "parse-embeddings-to-parquet": ("parse_embeddings_to_parquet.row_group_rows", 4000),
    "split": ("split.strategy", "stratified"),
    "featurize": ("featurize.sizes", False),
    "train": ("train.seed", 2),
    "evaluate": ("evaluate.label", "technique"),
    "report": ("evaluate.label", "technique"),
}
SIGNALS = ("KILL", "TERM", "INT")


class Outcome(NamedTuple):
    """How a round ended."""

    fault: str
    after: str  # what brought it right; empty where nothing did
    problem: str = ""


class Project:
    """The clone that is disturbed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        # Beside the clone: what DVC notes of files, and nothing of the user's own settings.
        self.settings = clean_settings(Path(sys.prefix), folder)
        self.stages: dict[str, list[str]] = {}
        self.seconds: dict[str, float] = {}
        self.right: dict[str, str] = {}

    def start(self, *module: str, limit: int | None = None) -> subprocess.Popen[str]:
        """Start a program of Python in a session of its own; files have at most `limit` bytes."""

        def prepare() -> None:
            # A job in the background ignores Ctrl-C, and so would what it starts.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        return subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=self.folder,
            env=self.settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=prepare,
        )

    def finish(self, process: subprocess.Popen[str]) -> str:
        """Wait for a program; return what it said."""
        try:
            return process.communicate(timeout=PATIENCE)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.communicate()[0] + "\nit hangs"

    def do(self, *module: str) -> str:
        return self.finish(self.start(*module))

    def git(self, *arguments: str) -> str:
        name = ["-c", "user.name=soak", "-c", "user.email=soak@example.org"]
        return subprocess.run(
            ["git", *name, *arguments],
            cwd=self.folder,
            env=self.settings,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def prepare(self) -> None:
        """Run the pipeline once, undisturbed, stage by stage, and keep what came out.

        Raises PipelineError where it does not run through.
        """
        declared = YAML(typ="safe").load(self.folder / "dvc.yaml")["stages"]
        for stage, content in declared.items():
            outs = content["outs"]
            self.stages[stage] = [out if isinstance(out, str) else next(iter(out)) for out in outs]
            start = time.monotonic()
            said = self.do("dvc", "repro", "--single-item", "--force", stage)
            self.seconds[stage] = time.monotonic() - start
            if f"Running stage '{stage}'" not in said or "ERROR" in said:
                raise PipelineError(f"the undisturbed run fails: {said.strip().splitlines()[-1]}")
            log(STAGE, f"{stage} takes {self.seconds[stage]:.0f} s undisturbed")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "The undisturbed run")
        self.right = self.results()

    def results(self) -> dict[str, str]:
        """The SHA-256 of dvc.lock and of each file below the folders of results."""
        paths = [self.folder / "dvc.lock"]
        for name in RESULTS:
            paths += (self.folder / name).rglob("*")
        return {
            path.relative_to(self.folder).as_posix(): file_digest(path, "sha256")
            for path in paths
            if path.is_file()
        }

    def objects(self) -> list[Path]:
        """The files of the cache."""
        cache = self.folder / ".dvc/cache/files/md5"
        return sorted(path for path in cache.rglob("*") if path.is_file())

    def forget(self, stage: str) -> None:
        """Take the results of a stage away, also from the cache, so that it has to run."""
        shutil.rmtree(self.folder / ".dvc/cache/runs", ignore_errors=True)
        lock = YAML(typ="safe").load(self.folder / "dvc.lock")["stages"][stage]
        for out in lock["outs"]:
            remove(self.folder / out["path"])
            remove(self.folder / ".dvc/cache/files/md5" / out["md5"][:2] / out["md5"][2:])

    def left(self) -> list[psutil.Process]:
        """Processes that have this folder as theirs."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                place = Path(process.cwd())
                if place.is_relative_to(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def problem(self) -> str:
        """What is not as after the undisturbed run, in a few words; empty where all is."""
        if (found := self.results()) != self.right:
            names = {name for name, _ in found.items() ^ self.right.items()}
            partial_files = [name for name in names if name.endswith(".partial")]
            return f"{min(partial_files or names)} differs, and {len(names) - 1} more"
        if changes := self.git("status", "--porcelain"):
            return f"Git sees {changes.splitlines()[0]}"
        if rotten := [p for p in self.objects() if file_digest(p, "md5") != object_name(p)]:
            return f"{rotten[0]} in the cache is damaged"
        return ""


def object_name(path: Path) -> str:
    """The MD5 that a file of the cache should have."""
    return f"{path.parent.name}{path.name}".removesuffix(".dir")


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main() -> str:
    arguments = parse_arguments()
    numbers = [arguments.only] if arguments.only is not None else range(1, arguments.rounds + 1)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    outcomes: list[Outcome] = []
    try:
        clone_commit(Path.cwd(), folder)
        project = Project(folder)
        project.prepare()
        kept = folder / "kept"
        shutil.copytree(project.folder, kept, symlinks=True)
        deadline = time.monotonic() + 60 * arguments.minutes
        for number in numbers:
            if time.monotonic() > deadline:
                break
            outcome = disturb(project, arguments.seed, number)
            outcomes.append(outcome)
            log(STAGE, f"round {number}: {outcome.fault}: {outcome.after or outcome.problem}")
            if not outcome.after:
                log(
                    STAGE,
                    f"to see it again: python -m scripts.soak --seed {arguments.seed} "
                    f"--only {number}",
                )
                shutil.rmtree(project.folder)
                shutil.copytree(kept, project.folder, symlinks=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{table(outcomes)}\n")
    failed = sum(not outcome.after for outcome in outcomes)
    if failed:
        raise PipelineError(f"{failed} of {len(outcomes)} rounds did not come right")
    return f"{len(outcomes)} rounds came right"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog=f"python -m scripts.{STAGE}",
        description="Disturb runs of the pipeline at random, and see whether they come right.",
    )
    parser.add_argument("--rounds", type=int, default=200, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="draws the faults (default: 0)")
    parser.add_argument("--only", type=int, metavar="ROUND", help="this round alone")
    parser.add_argument(
        "--minutes", type=float, default=24 * 60, help="start no round after so many minutes"
    )
    return parser.parse_args()


def disturb(project: Project, seed: int, number: int) -> Outcome:
    """Do one harm, then what the documents say, and tell how it ended."""
    draw = random.Random(f"{seed} {number}")
    name, fault = draw.choice(sorted(FAULTS.items()))
    stage = draw.choice(list(project.stages))
    params = (project.folder / "params.yaml").read_bytes()
    script = project.folder / f"stages/{stage.replace('-', '_')}.py"
    code = script.read_bytes()
    said = fault(project, stage, draw)
    (project.folder / "params.yaml").write_bytes(params)
    script.write_bytes(code)
    fault_name = f"{name}, {stage}"
    deadline = time.monotonic() + 20  # more than a stage takes to end
    while left := project.left():
        if time.monotonic() > deadline:
            for process in left:
                process.kill()
            return Outcome(fault_name, "", f"a process is left: {left[0].cmdline()}")
        time.sleep(0.2)
    if "it hangs" in said:
        return Outcome(fault_name, "", "it hangs")
    if has_traceback(said, project.folder, interrupted=name.startswith("SIGINT")):
        return Outcome(fault_name, "", f"a traceback: {said[-1000:]}")
    said = project.do(*REPRO)
    if not (problem := project.problem()):
        return Outcome(fault_name, "right after `dvc repro`")
    said += project.do(*MEND)
    said += project.do(*REPRO)
    if not (problem := project.problem()):
        return Outcome(fault_name, "right after `check --mend` and `dvc repro`")
    return Outcome(fault_name, "", f"{problem}; {said[-1500:]}")


def has_traceback(said: str, folder: Path, interrupted: bool) -> bool:
    """Whether messages have a traceback, but for those of Ctrl-C while Python or DVC starts.

    No code of the project, which lies in `folder`, runs by then. Where DVC goes on loading after
    the Ctrl-C, what it misses gives tracebacks of other errors, in its own packages.
    """

    def excused(one: str) -> bool:
        foreign = f'File "{folder}' not in one
        of_dvc = interrupted and "/site-packages/dvc" in one
        return foreign and ("\nKeyboardInterrupt" in one or of_dvc)

    return not all(map(excused, said.split("Traceback (most recent call last)")[1:]))


def moment(project: Project, stage: str, draw: random.Random) -> float:
    """Seconds after which a fault strikes: before, while or after the stage runs."""
    return draw.uniform(0, project.seconds[stage] * 1.1)


def kill(which: str, name: str) -> Callable[[Project, str, random.Random], str]:
    """The fault that DVC, the stage or both get a signal."""

    def fault(project: Project, stage: str, draw: random.Random) -> str:
        project.forget(stage)
        process = project.start(*REPRO)
        time.sleep(moment(project, stage, draw))
        number = signal.Signals[f"SIG{name}"]
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if which == "both":
                os.killpg(process.pid, number)
            elif which == "DVC":
                process.send_signal(number)
            else:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.send_signal(number)
        return project.finish(process)

    return fault


def small_disk(where: str) -> Callable[[Project, str, random.Random], str]:
    """The fault that the disk below a folder is full soon."""

    def fault(project: Project, stage: str, draw: random.Random) -> str:
        project.forget(stage)
        free = draw.choice((0, 10_000, 200_000, 2_000_000))
        with full_soon(project.folder / where, free) as mounted:
            return project.finish(project.start(*REPRO, limit=None if mounted else free))

    return fault


@contextmanager
def full_soon(place: Path, free: int) -> Iterator[bool]:
    """A small disk at a folder, with what is there and so many free bytes; False where none is."""
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        pages = sum(path.lstat().st_size // 4096 + 2 for path in place.rglob("*"))
        options = f"size={pages * 4096 + free + 16384}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
            yield False
            return
        shutil.copytree(place, folder, symlinks=True, dirs_exist_ok=True)
        subprocess.run(["mount", "--bind", folder, place], check=True)
        subprocess.run(["umount", folder], check=True)
        try:
            yield True
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)


def no_large_file(project: Project, stage: str, draw: random.Random) -> str:
    project.forget(stage)
    limit = draw.choice((0, 1_000, 30_000, 1_000_000))
    return project.finish(project.start(*REPRO, limit=limit))


def flip(path: Path, draw: random.Random) -> None:
    """Change a byte as a disk does: the time and the permissions of the file stay."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    if content:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip_in_cache(project: Project, stage: str, draw: random.Random) -> str:
    flip(draw.choice(project.objects()), draw)
    if draw.random() < 0.5:
        for out in project.stages[stage]:
            remove(project.folder / out)
    else:
        project.forget(stage)
    return project.do(*REPRO)


def flip_in_workspace(project: Project, stage: str, draw: random.Random) -> str:
    paths = sorted(name for name in project.right if name != "dvc.lock")
    flip(project.folder / draw.choice(paths), draw)
    project.forget(stage)
    return project.do(*REPRO)


def removed_file(project: Project, stage: str, draw: random.Random) -> str:
    paths = [project.folder / name for name in sorted(project.right) if ".gitignore" not in name]
    process = project.start(*REPRO)
    time.sleep(draw.uniform(0, 2))
    remove(draw.choice([*paths, *project.objects()]))
    said = project.finish(process)
    if not (project.folder / "dvc.lock").exists():
        return said
    project.forget(stage)
    return said + project.do(*REPRO)


def cut_off_lock(project: Project, stage: str, draw: random.Random) -> str:
    """dvc.lock is cut off; the documents say that Git has it."""
    path = project.folder / "dvc.lock"
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size)])
    said = project.do(*REPRO)
    if project.git("status", "--porcelain", "dvc.lock"):
        project.git("checkout", "dvc.lock")
    return said


def changed_meanwhile(
    project: Project, stage: str, draw: random.Random, path: Path, change: Callable[[], object]
) -> str:
    """Change a file while the stage runs, and half of the times back again."""
    project.forget(stage)
    before = path.read_bytes()
    process = project.start(*REPRO)
    time.sleep(moment(project, stage, draw))
    change()
    if draw.random() < 0.5:
        time.sleep(draw.uniform(0, 2))
        path.write_bytes(before)
    return project.finish(process)


def changed_parameter(project: Project, stage: str, draw: random.Random) -> str:
    path = project.folder / "params.yaml"
    name, value = PARAMETERS[stage]
    return changed_meanwhile(project, stage, draw, path, lambda: set_params(path, {name: value}))


def edited_script(project: Project, stage: str, draw: random.Random) -> str:
    path = project.folder / f"stages/{stage.replace('-', '_')}.py"
    edited = path.read_bytes() + b"\n# Edited.\n"
    return changed_meanwhile(project, stage, draw, path, lambda: path.write_bytes(edited))


def second_run(project: Project, stage: str, draw: random.Random) -> str:
    project.forget(stage)
    first = project.start(*REPRO)
    time.sleep(moment(project, stage, draw))
    second = project.do(*REPRO)
    return project.finish(first) + second


class BreaksOff(http.server.BaseHTTPRequestHandler):
    """A server that promises a table and hangs up in the middle of it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(b"Image file,Medium\n" * 100)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def lost_network(project: Project, stage: str, draw: random.Random) -> str:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), BreaksOff)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/table.csv"
    values = {"download.source": "file", "download.file.path": address}
    set_params(project.folder / "params.yaml", values)
    try:
        return project.do(*REPRO)
    finally:
        server.shutdown()


FAULTS: dict[str, Callable[[Project, str, random.Random], str]] = {
    **{
        f"SIG{name} to {which}": kill(which, name)
        for which in ("DVC", "the stage", "both")
        for name in SIGNALS
    },
    **{
        f"full disk below {where}": small_disk(where)
        for where in ("data/features", "models", "reports", ".dvc/cache", ".dvc/tmp")
    },
    "no large files": no_large_file,
    "flipped bit in the cache": flip_in_cache,
    "flipped bit in a result": flip_in_workspace,
    "removed file": removed_file,
    "dvc.lock cut off": cut_off_lock,
    "parameter changed meanwhile": changed_parameter,
    "script edited meanwhile": edited_script,
    "second run at once": second_run,
    "network lost": lost_network,
}


def table(outcomes: list[Outcome]) -> str:
    """How the rounds of each fault ended, in Markdown."""
    rounds = Counter(outcome.fault.split(",")[0] for outcome in outcomes)
    lines = [
        "| fault | rounds | right after `dvc repro` | after `check --mend` too | failed |",
        "|---|---:|---:|---:|---:|",
    ]
    for fault in [*sorted(rounds), None]:
        ours = [o for o in outcomes if fault is None or o.fault.split(",")[0] == fault]
        counts = Counter(
            ("mend" if "mend" in outcome.after else "repro") if outcome.after else "failed"
            for outcome in ours
        )
        cells = [fault or "all", len(ours), counts["repro"], counts["mend"], counts["failed"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run(STAGE, main)
