"""The benchmarks measure and judge rightly; how fast anything is, is not tested here."""

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmarks are no part of the package

from benchmarks import mailbox, markdown, raw_sqlite, report, wrk
from benchmarks.long_poll import Delays, Order
from benchmarks.messages import waiting_readers
from benchmarks.outcome import RESULTS, Machine, Options, Outcome, Target, conclude, options, status, this_machine
from benchmarks.processes import running, tree, usage
from benchmarks.samples import middle, percentile, ratio
from benchmarks.startup import has_text

from hub import running_hub

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = ("gateway", "intent", "local", "messages", "peers", "report", "scaling", "startup")
WRK = """Running 4s test @ http://127.0.0.1:9001/v1/chat/completions
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.35ms  212.00us   7.92ms   91.53%
    Req/Sec    24.01k     1.09k   26.11k    80.00%
  Latency Distribution
     50%  821.00us
     75%    1.40ms
     90%    1.52ms
     99%    2.10ms
  96040 requests in 4.00s, 62.30MB read
"""


def chosen(*, is_checked: bool = True, allows_absent: bool = False) -> Options:
    return Options(is_quick=False, is_checked=is_checked, allows_absent=allows_absent, is_saved=False, models=Path())


def target(measured: float | None, bound: float | None, relation: Literal["at most", "at least"] = "at most") -> Target:
    return Target(claim="speed", measured=measured, bound=bound, unit="us", relation=relation).judged()


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_explains_itself(script: str) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / f"{script}.py", "--help"], capture_output=True, text=True, check=True
    )
    assert "usage:" in done.stdout


def test_wrk_is_read() -> None:
    assert wrk.parse(WRK) == wrk.Load(requests=96040, seconds=4.0, p50_ms=0.821, p99_ms=2.1, refused=0, broken=0)


def test_requests_that_wrk_saw_fail_are_not_counted_as_served() -> None:
    printed = WRK + "  Socket errors: connect 0, read 3, write 1, timeout 2\n  Non-2xx or 3xx responses: 96000\n"
    load = wrk.parse(printed)
    assert (load.per_s, load.refused, load.broken) == (10.0, 96000, 6)


def test_what_wrk_did_not_print_is_an_error() -> None:
    with pytest.raises(ValueError, match="no total"):
        wrk.parse("unable to connect to 127.0.0.1:9001 Connection refused")


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_the_smallest_value_that_covers_its_share(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) < share * len(values)


def test_what_could_not_be_measured_is_left_out_of_the_median() -> None:
    assert middle([3.0, None, 1.0, 2.0]) == 2.0
    assert middle([None]) is None


def test_a_ratio_needs_both_figures() -> None:
    assert (ratio(1.0, 4.0), ratio(None, 4.0), ratio(1.0, None), ratio(1.0, 0.0)) == (0.25, None, None, None)


def test_a_target_is_met_up_to_its_bound() -> None:
    assert (target(20.0, 20.0).verdict, target(20.1, 20.0).verdict) == ("met", "missed")
    assert (target(0.5, 0.5, "at least").verdict, target(0.49, 0.5, "at least").verdict) == ("met", "missed")


def test_what_is_absent_is_never_a_pass() -> None:
    not_checked = [target(1.0, 2.0), target(1.0, None)]
    assert not_checked[1].verdict == "not checked"
    assert status(not_checked, chosen()) == 1
    assert status(not_checked, chosen(allows_absent=True)) == 0


def test_a_missed_target_fails_a_check_only() -> None:
    missed = [target(3.0, 2.0)]
    assert status(missed, chosen(allows_absent=True)) == 1
    assert status(missed, chosen(is_checked=False)) == 0


def test_the_last_line_is_the_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    ended = conclude("gateway", chosen(), this_machine(), {"us": 3.0}, [target(3.0, 2.0)], ["nginx"])
    printed = capsys.readouterr()
    outcome = json.loads(printed.out.splitlines()[-1])
    assert (ended, outcome["figures"], outcome["absent"]) == (1, {"us": 3.0}, ["nginx"])
    assert "missed: speed: 3 us, wanted at most 2" in printed.err


def test_options_are_read(tmp_path: Path) -> None:
    read = options("", ["--quick", "--check", "--models", str(tmp_path)], needs_models=True)
    assert read == Options(is_quick=True, is_checked=True, allows_absent=False, is_saved=False, models=tmp_path)


def test_the_cost_of_a_process_includes_its_children(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass\nprint('done', flush=True)\ntime.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    with running([sys.executable, "-c", parent], tmp_path / "log", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        members = tree(process.pid)
        assert len(members) == 2
        assert usage(process.pid).cpu_ns > 200e6
    give_up_s = time.monotonic() + 10
    while not all(has_ended(member) for member in members):  # the kernel takes a moment, and init another
        assert time.monotonic() < give_up_s


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def test_raw_sqlite_counts_the_rows_it_wrote(tmp_path: Path) -> None:
    per_s = raw_sqlite.rows_per_s(tmp_path / "raw.db", b"x" * 100, seconds=0.1)
    with closing(sqlite3.connect(tmp_path / "raw.db")) as db:
        (rows,) = db.execute("SELECT count(*) FROM log").fetchone()
    assert rows % raw_sqlite.GROUP == 0
    assert 0.1 <= rows / per_s < 5.0


def test_awaited_rows_are_counted_and_unique(tmp_path: Path) -> None:
    per_s = raw_sqlite.awaited_rows_per_s(tmp_path / "raw.db", b"x" * 100, seconds=0.1)
    with closing(sqlite3.connect(tmp_path / "raw.db")) as db:
        rows, ids = db.execute("SELECT count(*), count(DISTINCT id) FROM log").fetchone()
    assert rows == ids >= raw_sqlite.SENDERS
    assert 0.1 <= rows / per_s < 5.0


def test_messages_to_the_mailbox_are_counted(tmp_path: Path) -> None:
    per_s = mailbox.messages_per_s(tmp_path / "mailbox", text_bytes=100, senders=16, seconds=0.1)
    with closing(sqlite3.connect(tmp_path / "mailbox" / "hub.db")) as db:
        rows, ids = db.execute("SELECT count(*), count(DISTINCT id) FROM log").fetchone()
    assert rows == ids >= 16
    assert 0.1 <= rows / per_s < 5.0


def test_readers_that_wait_get_every_message(tmp_path: Path) -> None:
    with running_hub(tmp_path / "data") as hub:
        order = Order(port=hub.port, key=hub.admin_key, readers=5, messages=20, per_s=200.0)
        with waiting_readers(order) as output:
            delays = Delays(**json.loads(output.readline()))
    assert (len(delays.seconds), delays.lost) == (20, 0)
    assert all(delay_s > 0 for delay_s in delays.seconds)


@pytest.mark.parametrize(
    ("event", "is_text"),
    [
        (b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n', True),
        (b'data: {"choices":[{"delta":{"role":"assistant","content":null}}]}\n', False),
        (b'data: {"choices":[{"delta":{"reasoning_content":"Hm"}}]}\n', False),
        (b'data: {"choices":[],"usage":{"completion_tokens":8}}\n', False),
        (b"data: [DONE]\n", False),
        (b"\n", False),
    ],
)
def test_the_first_token_is_the_first_with_text(event: bytes, is_text: bool) -> None:
    assert has_text(event) is is_text


MACHINE = Machine(processor="Test 9000", cores=2, memory_gb=4, kernel="6.1", python="3.11.0", load=0.1)
STARTUP: dict[str, Any] = {
    "without_model": {"ready_s": 0.61, "rss_mb": 62.0},
    "models": {"smollm2-135m": {"first_token_s": 1.58}},
}


def outcome_of(verdict: float) -> dict[str, Outcome]:
    judged = (target(verdict, 2.0),)
    at = "2026-01-02 03:04"
    return {
        "startup": Outcome(benchmark="startup", at=at, is_quick=False, machine=MACHINE, figures=STARTUP, targets=judged)
    }


def test_a_table_replaces_the_one_before_and_nothing_else() -> None:
    page = "before\n<!-- figures: startup -->\nstale\n<!-- end -->\n<!-- figures: another -->\nkept\n<!-- end -->\n"
    once = report.fill(page, outcome_of(1.0), "en")
    assert "| ready without a model, s | 0.61 |" in once
    assert "first token of smollm2-135m after a cold start, s | 1.58" in once
    assert "Test 9000, 2 cores" in once
    assert "All targets are met" in once
    assert "stale" not in once
    assert "kept" in once
    assert report.fill(once, outcome_of(1.0), "en") == once


def test_a_page_says_which_target_was_missed() -> None:
    page = "<!-- figures: startup -->\n<!-- end -->\n"
    assert "Not met: speed: 3 us, wanted at most 2" in report.fill(page, outcome_of(3.0), "en")
    assert "未达到：speed" in report.fill(page, outcome_of(3.0), "zh")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_page_has_a_place_for_each_table_and_is_up_to_date(language: markdown.Language) -> None:
    pages = [page.read_text() for page in report.PAGES[language]]
    assert all("".join(pages).count(f"<!-- figures: {name} -->\n") == 1 for name in report.TABLES)
    assert [report.fill(page, report.load(RESULTS), language) for page in pages] == pages


def test_a_terminal_shows_a_table_in_columns_of_one_width() -> None:
    text = markdown.table(["", "longest"], [["a", 1234.5], ["bcd", None]])
    assert markdown.aligned(text) == "     longest\na    1,234  \nbcd  –      "


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_page_says_what_has_not_been_measured(language: markdown.Language) -> None:
    once = report.fill("<!-- figures: local -->\nstale\n<!-- end -->\n", {}, language)
    assert report.ABSENT[language].format(command="`python benchmarks/local.py --save`") in once
    assert "stale" not in once
    assert report.fill(once, {}, language) == once
