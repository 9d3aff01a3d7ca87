"""Nothing in the package turns data into code: no pickle, no eval, no archive that unpacks itself where it likes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import autoglm

SOURCES = sorted(Path(autoglm.__file__).parent.rglob("*.py"))
MODULES = frozenset({
    "cloudpickle", "code", "codeop", "dill", "imp", "joblib", "jsonpickle", "marshal", "multiprocessing", "pickle",
    "pickletools", "runpy", "shelve", "tensorflow", "torch", "yaml",
})  # fmt: skip
"""Each reads objects, and so code, out of bytes, or runs code that it is given. multiprocessing pickles."""
CALLS = frozenset({"__import__", "compile", "eval", "exec", "os.popen", "os.system"})
METHODS = frozenset({"extractall", "fromfile", "load_module", "unpack_archive"})
"""Of whatever object. Members of archives are read one by one here, each by a name that was checked."""
ARRAYS = frozenset({"np.load", "np.memmap", "numpy.load", "numpy.memmap"})


def findings(source: str) -> Iterator[str]:
    """Lines that turn data into code, or might."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found = [alias.name for alias in names if alias.name.split(".")[0] in MODULES]
            case ast.ImportFrom(module=str(module), names=names):
                wanted = {module.split(".")[0]} | {alias.name for alias in names if module == "importlib"}
                found = sorted(wanted & (MODULES | {"__import__"}))
            case ast.Call(func=ast.Attribute(attr=name)) if name in METHODS:
                found = [name]
            case ast.Call(func=ast.Name() | ast.Attribute() as called, keywords=words):
                name = ast.unparse(called)
                is_plain = any(word.arg == "allow_pickle" and ast.unparse(word.value) == "False" for word in words)
                found = [name] if name in CALLS or (name in ARRAYS and not is_plain) else []
            case (
                ast.keyword(arg="shell", value=ast.Constant(value=True))
                | ast.keyword(arg="allow_pickle", value=ast.Constant(value=True))
            ):
                found = [f"{node.arg}=True"]
            case _:
                continue
        yield from (f"line {getattr(node, 'lineno', 0)}: {name}" for name in found)


@pytest.mark.attack("code in model files")
def test_the_package_makes_no_code_of_data() -> None:
    assert len(SOURCES) > 300
    found = {str(path): list(findings(path.read_text())) for path in SOURCES}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "import os, marshal as m", "from torch.serialization import load", "from shelve import open",
        "eval('1')", "exec(data)", "__import__(name)", "compile(a, b, 'exec')", "tar.extractall(path)",
        "shutil.unpack_archive(a)", "os.system(x)", "np.load(path)", "np.load(path, allow_pickle=True)",
        "subprocess.run(x, shell=True)", "from importlib import __import__",
    ],
)  # fmt: skip
def test_what_makes_code_of_data_is_noticed(line: str) -> None:
    assert list(findings(f"def f():\n    {line}\n"))


@pytest.mark.parametrize(
    "line", ["re.compile(x)", "np.load(p, allow_pickle=False)", "json.load(f)", "tar.extractfile(i)"]
)
def test_what_does_not_is_not(line: str) -> None:
    assert not list(findings(line))
