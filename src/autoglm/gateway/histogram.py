"""Histograms on the request path: plain lists of counts, read by Prometheus when it asks."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily

MAX_SERIES = 2_000  # labels are bounded by routes, models and instances; this is the last line of defence

Series = tuple[list[int], list[float]]
"""Counts of the buckets, the last one for what is above all edges; and the sum, in a list of one."""


class Histogram:
    """One metric with its series. Series beyond MAX_SERIES are counted together under empty labels."""

    __slots__ = ("_help", "_labels", "_name", "_series", "edges_s")

    def __init__(self, name: str, help_text: str, labels: tuple[str, ...], edges_s: tuple[float, ...]) -> None:
        self._name = name
        self._help = help_text
        self._labels = labels
        self.edges_s = edges_s
        self._series: dict[tuple[str, ...], Series] = {}

    def observe(self, labels: tuple[str, ...], value_s: float) -> None:
        counts, total = self.series(labels)
        counts[bisect_left(self.edges_s, value_s)] += 1
        total[0] += value_s

    def series(self, labels: tuple[str, ...]) -> "Series":
        """For whoever counts by himself, to be quick."""
        series = self._series.get(labels)
        if series is None:
            if len(self._series) >= MAX_SERIES:
                labels = ("",) * len(self._labels)
            series = self._series.setdefault(labels, ([0] * (len(self.edges_s) + 1), [0.0]))
        return series

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        for labels, (counts, total) in self._series.items():
            family.add_metric(labels, cumulative(self.edges_s, counts), total[0])
        yield family


def cumulative(edges_s: tuple[float, ...], counts: list[int]) -> list[tuple[str, float]]:
    return list(zip([*(str(edge) for edge in edges_s), "+Inf"], accumulate(counts), strict=True))
