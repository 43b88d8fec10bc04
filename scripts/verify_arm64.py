"""Compute the last commit's results on an emulated arm64 processor and compare them.

    python -m scripts.verify_arm64

What `make verify` does, with a Neoverse N1 that QEMU emulates, Debian's Python for it and the
wheels of requirements.txt for it. DVC itself runs without emulation: it calls `python`, and a
script of that name, first on PATH, starts the emulated one. Exit code 0: each figure is as
promised; 1: one is not, or it could not be found out.

Run it with the project's environment, on Debian with Git and qemu-user. It downloads from Debian's
servers and from the package index, installs nothing on the system, and takes ten minutes.
"""

import argparse
import shlex
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from commands.verify import (
    Row,
    VerifyError,
    clean_settings,
    clone_commit,
    compare,
    output,
    recompute,
    tell,
)

QEMU = "qemu-aarch64"
TOOLS = {"git": "git", QEMU: "qemu-user", "apt-get": "apt", "dpkg": "dpkg"}  # and their packages
# What the emulated Python says of itself; importing `stages` fixes the kernels, as in a stage.
DESCRIBE = """\
import platform, stages, numpy, scipy.linalg, threadpoolctl
found = threadpoolctl.threadpool_info()
kernels = sorted({library["architecture"] for library in found if library["user_api"] == "blas"})
print(platform.machine(), "Python", platform.python_version(), "OpenBLAS", *kernels)
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.verify_arm64",
        description="Compute the last commit's results on an emulated arm64 and compare them.",
    )
    parser.parse_args()

    def check() -> list[Row]:
        with tempfile.TemporaryDirectory(prefix="verify-arm64-") as folder:
            return emulate(Path(folder).resolve())  # apt-get and QEMU take no relative path

    return tell(check)


def emulate(folder: Path) -> list[Row]:
    """Recompute the last commit in `folder` on arm64; return what was promised and found.

    Raises VerifyError where a step fails.
    """
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise VerifyError(f"{tool} is needed and is not installed: Debian's {package} has it")
    if find_spec("dvc") is None:
        raise VerifyError("this Python has no DVC: run it with the project's environment")
    project = Path(output(["git", "rev-parse", "--show-toplevel"], "this is no Git repository"))
    clone = clone_commit(project, folder)
    system, wheels = folder / "system", folder / "wheels"
    unpack_python(system, folder / "apt")
    install_wheels(wheels, clone / "requirements.txt")
    binaries = write_python(folder / "bin", system, wheels)
    settings = clean_settings(Path(sys.prefix), folder)
    settings["PATH"] = f"{binaries}:{settings['PATH']}"
    found = output(["python", "-c", DESCRIBE], "the emulated Python fails", clone, settings)
    print(f"[verify] running the pipeline from nothing on {found}", flush=True)
    before, after = recompute(clone, [sys.executable, "-m", "dvc"], settings)
    same = [row.what for row in compare(before, after, exact=True) if row.kept]
    print(f"[verify] not promised, and the same bytes: {', '.join(same) or 'nothing'}")
    return compare(before, after, exact=False)


def python_package() -> str:
    """Debian's name of the Python that is like the running one; its program has the same name."""
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def unpack_python(system: Path, apt: Path) -> None:
    """Unpack Debian's Python for arm64, with all that it depends on, in the folder `system`.

    apt-get keeps its lists in `apt` and takes nothing for installed, so that the system's own
    lists stay as they are, and everything is downloaded.
    """
    print(f"[verify] downloading Debian's {python_package()} for arm64", flush=True)
    for part in ("state/lists/partial", "cache/archives/partial"):
        (apt / part).mkdir(parents=True)
    (apt / "status").touch()
    values = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",
        "Dir::State": apt / "state",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
    }
    apt_get = ["apt-get", "--yes", *(f"-o{key}={value}" for key, value in values.items())]
    output([*apt_get, "update"], "the lists of Debian's packages could not be downloaded")
    packages = ["--download-only", "--no-install-recommends", python_package(), "libstdc++6"]
    output([*apt_get, "install", *packages], "Debian's Python for arm64 could not be downloaded")
    for package in sorted((apt / "cache/archives").glob("*.deb")):
        output(["dpkg", "-x", str(package), str(system)], "a package could not be unpacked")


def install_wheels(wheels: Path, requirements: Path) -> None:
    """Unpack the pinned packages for arm64, each checked against its hashes, in `wheels`."""
    print("[verify] installing requirements.txt for arm64, about a minute", flush=True)
    # Debian 12 has glibc 2.36: all wheels up to that number run.
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(17, 37)]
    platforms.append("--platform=manylinux2014_aarch64")
    # Without dependencies, as all are pinned: pip then also takes a package that has no wheel.
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps"]
    output(
        [*pip, *platforms, "--require-hashes", f"--target={wheels}", "-r", str(requirements)],
        "the pinned packages could not be installed for arm64",
    )


def write_python(folder: Path, system: Path, wheels: Path) -> Path:
    """Write a script called python, which starts the emulated one, in a new folder; return that."""
    emulator = [QEMU, "-cpu", "neoverse-n1", "-L", str(system), "-E", f"PYTHONPATH={wheels}"]
    command = [*emulator, str(system / "usr/bin" / python_package())]
    folder.mkdir()
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return folder


if __name__ == "__main__":
    sys.exit(main())
