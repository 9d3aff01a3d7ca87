"""docs/security.md says what is true: the attacks, what the hub calls, and the state of each ASVS requirement."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import attacks
import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "autoglm"
PAGES = ["docs/security.md", "docs/security.zh-CN.md"]

# --- attacks ---


@pytest.mark.parametrize("page", PAGES)
def test_the_table_of_attacks_is_that_of_the_tests(page: str) -> None:
    """Renew it by `python tools/attacks.py`."""
    text = (ROOT / page).read_text()
    assert attacks.renewed(text, attacks.table(attacks.attacks(ROOT / "tests"), attacks.PAGES[page])) == text


DEMANDED = """
alg none; alg confusion; jwk, jku and x5u injection; kid injection (path, SQL); crit; duplicate JSON keys;
non-canonical base64; wrong use; wrong aud; wrong typ; expired; nbf; missing exp; clock back and forward;
clock set back; clock set forward; reboot without a clock; replay within a run; replay across a restart;
a stolen token without its key; a proof reused on another path; a proof reused on another body;
snapshot rollback; freeze; mix-and-match; forged; under threshold; huge; a key revoked while offline;
cache tampering; log truncation; audit: the end is cut off; audit: entries are reordered"""
"""What the hub must withstand at the least; each under the name that its tests carry."""


@pytest.mark.parametrize("page", PAGES)
def test_every_attack_that_must_be_withstood_has_its_row(page: str) -> None:
    text = (ROOT / page).read_text()
    rows = re.findall(r"^\| ([^|]+) \| \[`", text.split(attacks.START)[1].split(attacks.END)[0], re.MULTILINE)
    demanded = [" ".join(name.split()) for name in DEMANDED.split(";")]
    assert [name for name in demanded if name not in rows] == []


TWO_TESTS = "def test_a(): ...\ndef test_b(): ..."
TWO_METHODS = "class TestA:\n    def test_a(self): ...\n    def test_b(self): ...\n"
FORMS = {
    "a function's": ('@pytest.mark.attack("x")\ndef test_a(): ...', 1),
    "a method's": ('class TestA:\n    @pytest.mark.attack("x")\n    async def test_a(self): ...', 1),
    "a file's, of which each test counts": ('pytestmark = [pytest.mark.attack("x")]\n' + TWO_TESTS, 2),
    "a class's": ('@pytest.mark.attack("x")\n' + TWO_METHODS, 2),
    "a class's pytestmark": (TWO_METHODS + '    pytestmark = pytest.mark.attack("x")', 2),
    "the mark by another name": ('attack = pytest.mark.attack\n@attack("x")\ndef test_a(): ...', 1),
    "a name for it with its attack": ('held = pytest.mark.attack("x")\n@held\ndef test_a(): ...', 1),
    "a name for a name": ('a = pytest.mark.attack\nb = a("x")\n@b\ndef test_a(): ...', 1),
    "a file's by a name": ('held = pytest.mark.attack("x")\npytestmark = held\n' + TWO_TESTS, 2),
    "a case's of a table": ('@parametrize("a", [param(1, marks=pytest.mark.attack("x"))])\ndef test_a(a): ...', 1),
    "a state machine's": ('@pytest.mark.attack("x")\nclass TestA(Machine.TestCase):\n    settings = 1', 1),
    "a state machine's by its file": ('pytestmark = pytest.mark.attack("x")\nclass TestA(Machine.TestCase): ...', 1),
    "twice is once": ('pytestmark = pytest.mark.attack("x")\n@pytest.mark.attack("x")\ndef test_a(): ...', 1),
    "no test": ('@pytest.mark.attack("x")\ndef made(): ...', 0),
    "another mark": ('@pytest.mark.slow("x")\ndef test_a(): ...', 0),
}


@pytest.mark.parametrize(("text", "count"), FORMS.values(), ids=FORMS)
def test_marks_are_found_wherever_they_stand(text: str, count: int, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text(text)
    assert attacks.attacks(tmp_path / "tests") == ({"x": {"tests/test_a.py": count}} if count else {})


def test_an_attack_without_a_plain_name_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("@pytest.mark.attack(f'x{1}')\ndef test_a(): ...")
    with pytest.raises(TypeError, match="line 1"):
        attacks.attacks(tmp_path / "tests")


# --- what the hub calls ---

LIBRARIES = {
    "aiohttp", "httpx", "httpx2", "aiosmtplib", "smtplib", "imaplib", "imap_tools", "paho", "requests", "nats", "acme",
    "ftplib", "poplib", "urllib3", "xmlrpc", "asyncssh", "paramiko", "ldap3",
}  # fmt: skip
MODULES = (
    "websockets.asyncio.client", "websockets.sync.client", "websockets.client", "urllib.request", "http.client",
    "opentelemetry.exporter", "tuf.ngclient", "logging.handlers", "securesystemslib",
)  # fmt: skip
CALLS = {
    "open_connection", "create_connection", "open_unix_connection", "connect_tcp", "connect_udp",
    "create_datagram_endpoint", "create_unix_connection", "getaddrinfo", "urlopen", "Web", "sock_connect",
}  # fmt: skip


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All but what is for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from statements(child)


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def opens_connections(module: ast.Module) -> bool:
    for node in statements(module):
        if any(name.split(".")[0] in LIBRARIES or name.startswith(MODULES) for name in imported(node)):
            return True
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in CALLS:
                return True
    return False


def documented(page: str) -> list[str]:
    table = (ROOT / page).read_text().split("<!-- outgoing -->")[1].split("<!-- end of outgoing -->")[0]
    return re.findall(r"^\| `([^`]+\.py)` \|", table, re.MULTILINE)


@pytest.mark.attack("server-side request forgery by a new way out")
@pytest.mark.parametrize("page", PAGES)
def test_every_module_that_opens_a_connection_is_in_the_table(page: str) -> None:
    """Say there who chooses the address, and what guards it."""
    opening = {
        file.relative_to(SOURCE).as_posix()
        for file in SOURCE.rglob("*.py")
        if opens_connections(ast.parse(file.read_text()))
    }
    assert sorted(documented(page)) == sorted(opening)


@pytest.mark.parametrize(
    ("text", "opens"),
    [
        ("import aiohttp", True),
        ("def f():\n    from urllib.request import urlopen", True),
        ("await asyncio.open_connection(h, p)", True),
        ("x = Web(guard=None)", True),
        ("if TYPE_CHECKING:\n    import aiohttp", False),
        ("from websockets.frames import Frame", False),
    ],
)
def test_what_opens_a_connection_is_recognised(text: str, opens: bool) -> None:
    assert opens_connections(ast.parse(f"async def main():\n    pass\n{text}")) is opens


# --- the ASVS ---

# Levels 1 and 2 of the ASVS 5.0.0: by section, how many requirements from 1 on.
SECTIONS = """
1.1:2 1.2:9 1.3:11 1.4:3 1.5:2 2.1:3 2.2:3 2.3:4 2.4:1 3.2:2 3.3:4 3.4:6 3.5:5 3.7:2 4.1:3 4.2:1 4.3:2 4.4:4
5.1:1 5.2:3 5.3:2 5.4:3 6.1:3 6.2:12 6.3:4 6.4:4 6.5:5 6.6:3 6.8:4 7.1:3 7.2:4 7.3:2 7.4:5 7.5:2 7.6:2 8.1:2 8.2:3 8.3:1
8.4:1 9.1:3 9.2:4 10.1:2 10.2:2 10.3:4 10.4:11 10.5:5 10.6:2 10.7:3 11.1:2 11.2:3 11.3:3 11.4:4 11.5:1 11.6:1 12.1:3
12.2:2 12.3:4 13.1:1 13.2:5 13.3:2 13.4:5 14.1:2 14.2:4 14.3:3 15.1:3 15.2:3 15.3:7 16.1:1 16.2:5 16.3:4 16.4:3 16.5:3
17.1:1 17.2:4 17.3:2"""
STATES = ("yes", "partly", "not yet", "open", "n/a")


def test_every_requirement_of_levels_1_and_2_has_its_state_and_reason() -> None:
    page = (ROOT / "docs/asvs.md").read_text()
    rows = re.findall(r"^\| ([\d.]+) \| ([12]) \| ([^|]+) \| (.+) \|$", page, re.MULTILINE)
    wanted = [
        f"{section}.{number}"
        for section, count in (entry.split(":") for entry in SECTIONS.split())
        for number in range(1, int(count) + 1)
    ]
    assert [number for number, _, _, _ in rows] == wanted
    assert {state for _, _, state, _ in rows} <= set(STATES)
    counted = dict(zip(STATES, (sum(row[2] == state for row in rows) for state in STATES), strict=True))
    assert (
        f"Of {len(rows)}: {counted['yes']} yes, {counted['partly']} partly, {counted['not yet']} not yet, "
        f"{counted['open']} open, {counted['n/a']} not applicable."
    ) in page


@pytest.mark.parametrize(
    ("page", "least"),
    [
        *((page, 11) for page in [*PAGES, "docs/asvs.md"]),
        ("docs/audit.md", 2), ("docs/audit.zh-CN.md", 2),
        ("docs/policy.md", 0), ("docs/policy.zh-CN.md", 0),
    ],
)  # fmt: skip
def test_what_is_named_as_proof_is_there(page: str, least: int) -> None:
    named = set(re.findall(r"`((?:benchmarks|tests|docs|src)/[^`*]+)`", (ROOT / page).read_text()))
    assert len(named) >= least
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_both_languages_have_the_same_rows() -> None:
    """The same headings, as many rows under each, and the same tests as proof."""
    shapes = []
    for page in PAGES:
        lines = (ROOT / page).read_text().splitlines()
        shapes.append([
            line.split(" ")[0] if line.startswith("#") else re.findall(r"`tests/[^`]+`", line)
            for line in lines
            if line.startswith(("#", "|", "- "))
        ])  # fmt: skip
    assert shapes[0] == shapes[1]
