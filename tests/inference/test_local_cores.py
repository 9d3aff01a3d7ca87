"""Threads are dealt so that local instances never fight over cores."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.inference.local import share_threads, usable_cores
from autoglm.inference.local.cores import _quotas

wishes = st.lists(st.none() | st.integers(1, 64), min_size=1, max_size=8)


@given(wishes, st.integers(1, 64))
def test_nobody_is_left_out_and_the_cores_are_never_exceeded(wanted: list[int | None], cores: int) -> None:
    shares = share_threads(wanted, cores)
    assert all(share >= 1 for share in shares)
    assert all(share <= figure for share, figure in zip(shares, wanted, strict=True) if figure is not None)
    assert sum(shares) <= max(cores, len(wanted))


@given(st.lists(st.integers(1, 8), min_size=1, max_size=6))
def test_wishes_that_fit_are_met_exactly(wanted: list[int]) -> None:
    assert share_threads(wanted, sum(wanted)) == wanted


@pytest.mark.parametrize(
    ("wanted", "cores", "shares"),
    [
        ([None], 1, [1]),
        ([None], 2, [1]),
        ([None], 8, [7]),
        ([None, None], 8, [4, 3]),
        ([None, None, None], 2, [1, 1, 1]),
        ([2, None], 2, [1, 1]),
        ([2], 2, [2]),
        ([6, None], 8, [6, 1]),
        ([4, 4, 4], 8, [3, 3, 2]),
        ([], 4, []),
    ],
)
def test_a_core_stays_free_unless_somebody_asks_for_it(wanted: list[int | None], cores: int, shares: list[int]) -> None:
    assert share_threads(wanted, cores) == shares


def test_the_tightest_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    (tmp_path / "pod" / "box").mkdir(parents=True)
    (tmp_path / "pod" / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "pod" / "box" / "cpu.max").write_text("max 100000\n")
    assert _quotas("0::/pod/box\n", tmp_path) == [1.5]


def test_quotas_of_the_old_cgroups_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("200000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert _quotas("4:cpu,cpuacct:/docker/abc\n3:memory:/x\n", tmp_path) == [2.0]


@pytest.mark.parametrize("text", ["", "max", "-1 100000", "100000 0", "nonsense", "1 2 3"])
def test_a_quota_that_says_nothing_is_no_limit(tmp_path: Path, text: str) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert _quotas("0::/", tmp_path) == []


def test_this_machine_has_a_core() -> None:
    assert usable_cores() >= 1
