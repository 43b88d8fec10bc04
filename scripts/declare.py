"""Write the scripts that each stage imports into its `deps` in dvc.yaml.

    python -m scripts.declare

A stage re-runs when one of them changes. Other deps, such as tables, are kept as they are. Both
pipelines are gone through: dvc.yaml and photographs/dvc.yaml.
"""

import ast
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Each pipeline, and the package of its stages.
PIPELINES = {ROOT / "dvc.yaml": "stages", ROOT / "photographs" / "dvc.yaml": "photographs"}
# Python imports it before any stage.
PACKAGE = "stages/__init__.py"
# It says where work runs, and changes nothing of what a stage gives: no stage depends on it.
ELSEWHERE = "stages/common/cluster.py"


def main() -> None:
    for path, package in PIPELINES.items():
        text = declared(path.read_text(encoding="utf-8"), package, path.parent)
        path.write_text(text, encoding="utf-8")


def declared(text: str, package: str = "stages", folder: Path = ROOT) -> str:
    """The text of a dvc.yaml, with the scripts of each stage's deps as they are imported.

    Its stages are scripts of `package`; paths begin in `folder`, where it lies.
    """

    def rewrite(match: re.Match[str]) -> str:
        start, script, between, deps = match.groups()
        lines = [line.removeprefix("      - ") for line in deps.splitlines()]
        kept = [line for line in lines if not line.endswith(".py")]
        outputs = [line for line in kept if line.startswith(("data/", "models/", "reports/", "$"))]
        others = [line for line in kept if line not in outputs]
        found = [
            Path(os.path.relpath(ROOT / file, folder)).as_posix()
            for file in all_imports(f"{package}/{script}.py")
        ]
        listed = [*outputs, *sorted([*others, *found])]
        return f"{start}{script}{between}" + "".join(f"      - {line}\n" for line in listed)

    pattern = rf"(    cmd: .*python -m {package}\.)(\w+)(\n    deps:\n)((?:      - .*\n)+)"
    return re.sub(pattern, rewrite, text)


def all_imports(script: str) -> set[str]:
    """The project's files that a script imports, and those that they import, by their paths."""
    package = Path(script).parent / "__init__.py"
    found, waiting = {PACKAGE, ELSEWHERE}, [script, package.as_posix()]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += imports(file)
    return found - {ELSEWHERE}


@cache
def imports(script: str) -> frozenset[str]:
    """The project's files that a script imports, anywhere in it."""
    found = set()
    for node in _walk(ast.parse((ROOT / script).read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.module is None or node.level:
                raise ValueError(f"{script}: a relative import")
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names = _modules_of(node.args[0], script)
        found |= {file for name in names if (file := _file_of(name))}
    return frozenset(found)


def _modules_of(name: ast.expr, script: str) -> list[str]:
    """The modules that an f-string such as f"stages.features.kinds.{name}" may name."""
    if not isinstance(name, ast.JoinedStr):
        raise ValueError(f"{script}: an import that cannot be followed")
    parts = (str(p.value) if isinstance(p, ast.Constant) else "*" for p in name.values)
    pattern = "".join(parts).replace(".", "/") + ".py"
    return [
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for path in sorted(ROOT.glob(pattern))
    ]


def _file_of(module: str) -> str | None:
    """The file of a module of the project, None for a package or a module of a library."""
    path = module.replace(".", "/") + ".py"
    return path if (ROOT / path).is_file() else None


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker reads."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from _walk(child)


if __name__ == "__main__":
    main()
