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
    """One for each test and attack; a mark of a file or a class counts for each of its tests."""
    aliases = {
        target.id: statement.value
        for statement in module.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    yield from _names_under(module, aliases, [])


def _names_under(node: ast.Module | ast.stmt, aliases: dict[str, ast.expr], of_all: list[str]) -> Iterator[str]:
    of_all = [*of_all, *_own_marks(node, aliases)]
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        if node.name.startswith("test_"):
            yield from dict.fromkeys(of_all)
        return
    if _is_state_machine(node):
        yield from dict.fromkeys(of_all)  # one test, `runTest`, which stands in no source
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield from _names_under(child, aliases, of_all)


def _own_marks(node: ast.AST, aliases: dict[str, ast.expr]) -> Iterator[str]:
    """By decorators, and by `pytestmark` in its body."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        for mark in node.decorator_list:
            yield from _marks(mark, aliases)
    if isinstance(node, (ast.Module, ast.ClassDef)):
        for statement in node.body:
            if isinstance(statement, ast.Assign) and any(_is_name(to, "pytestmark") for to in statement.targets):
                yield from _marks(statement.value, aliases)


def _marks(node: ast.AST, aliases: dict[str, ast.expr]) -> Iterator[str]:
    """All in this expression, and in what its names stand for: `attack = pytest.mark.attack`, called or not yet."""
    if isinstance(node, ast.Name) and node.id in aliases:
        # Without this name, as it may be assigned from itself.
        yield from _marks(aliases[node.id], {name: value for name, value in aliases.items() if name != node.id})
    elif isinstance(node, ast.Call) and _is_attack(node.func, aliases):
        if len(node.args) != 1 or not isinstance(node.args[0], ast.Constant) or not isinstance(node.args[0].value, str):
            raise TypeError(f"line {node.lineno}: the name of an attack is a plain string")
        yield node.args[0].value
    else:
        for child in ast.iter_child_nodes(node):
            yield from _marks(child, aliases)


def _is_attack(called: ast.expr, aliases: dict[str, ast.expr]) -> bool:
    if isinstance(called, ast.Name):
        called = aliases.get(called.id, called)
    return isinstance(called, ast.Attribute) and called.attr == "attack"


def _is_state_machine(node: ast.AST) -> bool:
    """`class TestX(Machine.TestCase)`, as hypothesis makes it; unittest's own has its tests in the source."""
    return isinstance(node, ast.ClassDef) and any(
        isinstance(base, ast.Attribute) and base.attr == "TestCase" and not _is_name(base.value, "unittest")
        for base in node.bases
    )


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
