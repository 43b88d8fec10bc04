"""`make verify` finds out whether results can be computed again, and says what it found."""

import json
import os
import platform
import shutil
import subprocess
import sys

import pytest
from conftest import PROJECT, stages_run

from commands import verify
from commands.verify import Machine, Row, checksums, compare, flatten, notes, table, this_machine
from scripts import verify_arm64
from stages import has_avx2

LOCK = b"""schema: '2.0'
stages:
  train:
    cmd: python -m stages.train
    deps:
    - path: data/features/train.parquet
      hash: md5
      md5: aaa
      size: 1
    - path: stages/train.py
      hash: md5
      md5: bbb
      size: 1
    outs:
    - path: models/model.onnx
      hash: md5
      md5: ccc
      size: 1
"""
METRICS = {"data": {"source": "file"}, "test": {"accuracy": 0.9, "log_loss": 0.25}}


def results(lock=LOCK, **test):
    metrics = METRICS | {"test": METRICS["test"] | test}
    return {
        "dvc.lock": lock,
        "reports/metrics.json": json.dumps(metrics, indent=1).encode(),
        "reports/details.json": b'{"test_interval": {"accuracy": {"low": 0.8}}}',
    }


def run_verify(project):
    """Run it on a copy of the project, with the packages that are installed here."""
    return subprocess.run(
        [sys.executable, "commands/verify.py", "--environment", sys.prefix],
        cwd=project.folder,
        env=os.environ | {"GIT_CONFIG_GLOBAL": os.devnull},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_a_result_that_was_made_up_is_found_also_when_the_lock_names_it_and_others_come_out_again(
    project,
):
    # A cache that a team shares has all results; they have to be computed all the same.
    project.dvc("config", "cache.dir", str(project.folder / ".dvc/cache"))
    path = project.folder / "reports/metrics.json"
    found = json.loads(path.read_text())["test"]["accuracy"]
    path.write_text(path.read_text().replace(f'"accuracy": {found}', '"accuracy": 1.0'))
    # DVC now takes it for what `evaluate` wrote.
    project.dvc("commit", "--force", "evaluate", "report")
    assert project.repro() == []
    project.commit()
    result = run_verify(project)
    assert result.returncode == 1
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if "BROKEN" in line}
    assert set(rows) == {"dvc.lock", "reports/metrics.json"}
    assert '- "accuracy": 1.0' in rows["reports/metrics.json"]
    assert "2 of " in result.stdout.splitlines()[-1]
    assert len(stages_run(result.stdout)) == 7
    kept = {line.split()[0] for line in result.stdout.splitlines() if line.endswith("kept")}
    assert {"models/model.onnx", "reports/index.html", "reports/details.json"} <= kept
    assert {"data/raw", "data/artefacts.parquet", "reports/figures", "stages"} <= kept


def test_when_all_promises_are_kept_it_says_so_and_the_exit_code_is_0(monkeypatch, capsys):
    kept = compare(results(), results(), exact=True)
    monkeypatch.setattr(verify, "verify", lambda folder, environment: kept)
    monkeypatch.setattr(sys, "argv", ["verify"])
    assert verify.main() == 0
    assert capsys.readouterr().out.endswith("[verify] all kept\n")


def test_without_committed_results_one_sentence_says_so(project):
    (project.folder / "dvc.lock").unlink()
    project.commit()
    result = run_verify(project)
    assert result.returncode == 1
    assert "[verify] error: dvc.lock is not committed" in result.stderr
    assert "Traceback" not in result.stderr


def broken(rows):
    return [row.what for row in rows if not row.kept]


def test_each_file_of_the_lock_is_compared_and_no_script():
    assert checksums(LOCK.decode()) == {
        "data/features/train.parquet": "aaa",
        "models/model.onnx": "ccc",
    }
    other = results(LOCK.replace(b"ccc", b"ddd"))
    assert broken(compare(results(), results(), exact=True)) == []
    assert broken(compare(results(), other, exact=True)) == ["dvc.lock", "models/model.onnx"]
    assert len(compare(results(), other, exact=True)) == 5


def test_a_missing_result_is_a_broken_promise():
    lock_only = {"dvc.lock": LOCK}
    for exact in (True, False):
        found = broken(compare(results(), lock_only, exact=exact))
        assert found == ["reports/metrics.json", "reports/details.json"]


@pytest.mark.parametrize(
    ("accuracy", "kept"), [(0.9, True), (0.909, True), (0.891, True), (0.92, False), (0.88, False)]
)
def test_where_bytes_are_not_promised_numbers_may_differ_by_the_tolerance(accuracy, kept):
    other = results(LOCK.replace(b"ccc", b"ddd"), accuracy=accuracy)
    row, details = compare(results(), other, exact=False)
    assert details.kept
    assert row.kept == kept
    assert (row.compared, row.promised) == ("numbers", "each number within 0.01")
    assert ("test.accuracy" in row.found) == (accuracy != 0.9)


def test_details_that_are_off_are_found_too():
    other = results()
    other["reports/details.json"] = other["reports/details.json"].replace(b"0.8", b"0.7")
    assert broken(compare(results(), other, exact=False)) == ["reports/details.json"]


def test_numbers_that_only_one_side_has_are_no_match():
    row, _ = compare(results(), results(extra=1), exact=False)
    assert not row.kept
    assert "test.extra" in row.found


def test_another_source_of_the_data_is_no_match():
    other = results()
    other["reports/metrics.json"] = other["reports/metrics.json"].replace(b'"file"', b'"mame"')
    assert broken(compare(results(), other, exact=False)) == ["reports/metrics.json"]


@pytest.mark.parametrize(
    ("machine", "exact", "text"),
    [
        (("Linux", "x86_64", True, "2.36"), True, "Linux, x86_64, with AVX2, glibc 2.36"),
        (("Linux", "x86_64", False, "2.36"), False, "Linux, x86_64, without AVX2, glibc 2.36"),
        (("Linux", "x86_64", True, ""), False, "Linux, x86_64, with AVX2, no glibc"),
        (("Linux", "aarch64", None, "2.36"), False, "Linux, aarch64, glibc 2.36"),
        (("Windows", "AMD64", None, ""), False, "Windows, AMD64, no glibc"),
        (("macOS", "arm64", None, ""), False, "macOS, arm64, no glibc"),
    ],
)
def test_the_same_bytes_are_promised_where_they_were_tried(machine, exact, text):
    assert Machine(*machine).exact == exact
    assert str(Machine(*machine)) == text


def test_where_less_is_promised_a_note_says_so():
    assert notes(Machine("Linux", "x86_64", True, "2.36")) == []
    (arm,) = notes(Machine("Linux", "aarch64", None, "2.36"))
    assert "here, numbers are compared, each within 0.01" in arm
    _, untried = notes(Machine("macOS", "arm64", None, ""))
    assert untried.startswith("macOS is untried")


def test_the_machine_at_hand_is_known():
    here = this_machine()
    assert here.system == platform.system()
    if here.system == "Linux" and here.processor == "x86_64":
        assert here.avx2 == has_avx2()


def test_nested_numbers_are_named_with_dots():
    assert flatten(METRICS)["test.log_loss"] == 0.25


def test_the_table_marks_what_is_broken():
    rows = [Row("a", "the same bytes", "bytes", "the same bytes", True)]
    rows.append(Row("bb", "0", "counts", "2", False))
    assert table(rows).splitlines() == [
        "result  promised        compared  found",
        "------  --------------  --------  --------------  ------",
        "a       the same bytes  bytes     the same bytes  kept",
        "bb      0               counts    2               BROKEN",
    ]


def test_it_needs_nothing_but_python():
    code = "import sys; sys.path.insert(0, '.'); import commands.verify"
    result = subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=PROJECT)
    assert result.returncode == 0


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder that alone is on PATH, besides Git, with programs that do nothing."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("qemu-aarch64", "apt-get", "dpkg"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    (folder / "git").symlink_to(shutil.which("git"))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(sys, "argv", ["verify_arm64"])
    return folder


@pytest.mark.parametrize("missing", ["git", "qemu-aarch64", "apt-get", "dpkg"])
def test_without_a_program_that_the_emulation_needs_one_sentence_says_so(missing, programs, capsys):
    (programs / missing).unlink()
    assert verify_arm64.main() == 1
    assert f"[verify] error: {missing} is needed and is not installed" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the emulation needs Linux")
def test_numbers_of_an_emulated_processor_are_compared(project, programs, monkeypatch, capfd):
    # An emulator that starts this Python, so that nothing has to be downloaded.
    name = verify_arm64.python_package()
    script = f'until [ "${{1##*/}}" = {name} ]; do shift; done; shift; exec {sys.executable} "$@"'
    (programs / "qemu-aarch64").write_text(f"#!/bin/sh\n{script}\n")
    monkeypatch.setenv("PATH", os.pathsep.join([str(programs), os.defpath]))
    for step in ("unpack_python", "install_wheels"):
        monkeypatch.setattr(verify_arm64, step, lambda *arguments: None)
    monkeypatch.chdir(project.folder)
    assert verify_arm64.main() == 0
    found = capfd.readouterr().out
    assert len(stages_run(found)) == 7
    assert f"Python {platform.python_version()}" in found
    assert "not promised, and the same bytes: dvc.lock, " in found
    assert "each number within 0.01  numbers   at most 0.000000" in found
    assert found.endswith("[verify] all kept\n")
