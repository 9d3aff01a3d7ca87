"""The table of attacks in docs/security.md: the names that tests carry as `@pytest.mark.attack("name")`, and where.

`python tools/attacks.py` writes it anew into both languages; tests/test_security_docs.py fails where it is old.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "docs/security.md": "| attack | tests |",
    "docs/security.zh-CN.md": "| 攻击（名称与测试中的标记一致） | 测试 |",
}
START, END = "<!-- attacks: made by tools/attacks.py -->", "<!-- end of attacks -->"


def main() -> None:
    found = attacks(ROOT / "tests")
    for name, heading in PAGES.items():
        page = ROOT / name
        page.write_text(renewed(page.read_text(), table(found, heading)))


def attacks(folder: Path) -> dict[str, dict[str, int]]:
    """By attack, how many tests each file has for it; files relative to the repository."""
    found: dict[str, dict[str, int]] = {}
    for file in sorted(folder.rglob("test_*.py")):
        for name in _names_in(ast.parse(file.read_text())):
            tests = found.setdefault(name, {})
            path = file.relative_to(folder.parent).as_posix()
            tests[path] = tests.get(path, 0) + 1
    return dict(sorted(found.items(), key=lambda entry: entry[0].lower()))


def _names_in(module: ast.Module) -> Iterator[str]:
    """One for each test and attack; a mark of the whole file counts for each of its tests."""
    of_file = [
        name
        for statement in module.body
        if isinstance(statement, ast.Assign) and any(_is_name(target, "pytestmark") for target in statement.targets)
        for name in _marks(statement.value)
    ]
    for node in ast.walk(module):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
            yield from dict.fromkeys([*of_file, *(name for mark in node.decorator_list for name in _marks(mark))])


def _marks(node: ast.expr) -> Iterator[str]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "attack":
            (name,) = call.args
            if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
                raise TypeError(f"line {call.lineno}: the name of an attack is a plain string")
            yield name.value


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def table(found: dict[str, dict[str, int]], heading: str) -> str:
    rows = [heading, "|---|---|"]
    for name, files in found.items():
        tests = ", ".join(
            f"[`{path.removeprefix('tests/')}`](../{path})" + (f" ({count})" if count > 1 else "")
            for path, count in files.items()
        )
        rows.append(f"| {name} | {tests} |")
    return "\n".join(rows)


def renewed(page: str, rows: str) -> str:
    """The page with these rows between its two marks. Raises ValueError where it has none."""
    before, rest = page.split(START)
    _, after = rest.split(END)
    return f"{before}{START}\n{rows}\n{END}{after}"


if __name__ == "__main__":
    main()
