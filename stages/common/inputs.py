"""Tell whether what a stage reads is what DVC takes it for.

DVC believes what it has once noted of a file: that one in its cache which may not be written to is
what its name says, and that a script which a stage has run is the one that lies there afterwards.
A stage that runs below DVC looks itself, before it reads and after it has written.
"""

import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from stages.common.files import file_digest

LOCK, PIPELINE, PARAMS = Path("dvc.lock"), Path("dvc.yaml"), Path("params.yaml")
CHECK = "python -m commands.check --mend"


class Inputs:
    """What the stage that DVC runs in this process declares to read, as dvc.yaml and dvc.lock say.

    Without DVC, there is nothing to look at.
    """

    def __init__(self, started: float) -> None:
        """`started` is when this process had not read any script yet, in seconds of the epoch."""
        self._recorded: dict[Path, str] = {}
        self._others: dict[Path, str] = {}
        self._sections: set[str] = set()
        stage = os.environ.get("DVC_STAGE", "").rpartition(":")[2]
        folder = pipeline_folder()
        if not stage or not (folder / PIPELINE).is_file():
            return
        pipeline, lock = _text(folder / PIPELINE), _text(folder / LOCK)
        self._params = (folder / PARAMS).absolute()
        self._params_read = _text(self._params)
        self._sections = {name.split(".")[0] for name in declared(pipeline, stage, "params")}
        recorded = recorded_outs(lock)
        for name in declared(pipeline, stage, "deps") | declared(lock, stage, "deps"):
            path = (folder / name).absolute()
            if name in recorded:
                self._recorded[path] = recorded[name]
            elif path.is_file():
                # Of one that has changed since this process began to read scripts, nobody knows
                # whether it was read before. A clock that was put back says nothing.
                torn = started < path.stat().st_ctime <= time.time()
                self._others[path] = "" if torn else file_digest(path, "md5")

    def damaged(self) -> str | None:
        """What to say where a file is not the one that the stage before has written, else None.

        One that is missing is left to the stage, which says so.
        """
        for path, md5 in self._recorded.items():
            if path.exists() and md5_of(path) != md5:
                name = os.path.relpath(path)
                return (
                    f"{name} is not what dvc.lock says: a disk, a cache or a hand has changed it; "
                    f"`{CHECK}` brings back the right one, or says how to keep this one"
                )
        return None

    def changed_meanwhile(self) -> str | None:
        """What to say where a script or a parameter has changed since the start, else None.

        Its result would be taken for that of the new script, or of the new parameters.
        """
        changed = [
            os.path.relpath(path)
            for path, md5 in self._others.items()
            if not path.is_file() or file_digest(path, "md5") != md5
        ]
        if self._sections and (now := _text(self._params)) != self._params_read:
            old, new = (_sections(text) for text in (self._params_read, now))
            changed += [
                f"`{name}` in params.yaml"
                for name in sorted(self._sections)
                if old.get(name) != new.get(name)
            ]
        if not changed:
            return None
        return (
            f"{changed[0]} changed while the stage ran, so that nobody can say what made its "
            "results: run `dvc repro` again"
        )


def pipeline_folder() -> Path:
    """Where the dvc.yaml lies that has this program as a stage: here, or where its package is."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    package = Path(spec.name.split(".")[0] if spec else "")
    return package if (package / PIPELINE).is_file() else Path()


def recorded_outs(lock: str) -> dict[str, str]:
    """The MD5 of each file and folder that the stages of a dvc.lock have written, by its path."""
    found: dict[str, str] = {}
    for outs in re.findall(r"^    outs:\n((?:    - .*\n(?:      .*\n)*)+)", lock, re.MULTILINE):
        found.update(re.findall(r"- path: (.+)\n +hash: md5\n +md5: (\S+)\n", outs))
    return found


def declared(text: str, stage: str, kind: str) -> set[str]:
    """What a dvc.yaml or dvc.lock says of a stage's `deps`, paths, or of its `params`, names."""
    section = re.search(rf"^  {re.escape(stage)}:\n((?:    .*\n|\n)+)", text, re.MULTILINE)
    listed = section and re.search(rf"^    {kind}:\n((?:    [ -].*\n)+)", section[1], re.MULTILINE)
    return set(re.findall(r"^ +- (?:path: )?(.+)\n", listed[1], re.MULTILINE)) if listed else set()


def md5_of(path: Path) -> str:
    """The MD5 of a file, or of a folder as DVC has it: of the list of its files and their MD5."""
    if not path.is_dir():
        return file_digest(path, "md5")
    files = sorted(
        (file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file()
    )
    listed = [{"md5": file_digest(file, "md5"), "relpath": name} for name, file in files]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"


def _sections(text: str) -> dict[str, Any]:
    """The content of a params.yaml; nothing where it is no YAML."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        return {}
    return content if isinstance(content, dict) else {}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
