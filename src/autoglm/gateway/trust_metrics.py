"""How far this hub's policy and clock are to be believed, for `/metrics`: so that somebody is told in time."""

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric

from autoglm.auth.policy.ladder import STAGES
from autoglm.auth.trust import Trust


def trust_metrics(trust: Trust) -> Iterable[Metric]:
    """A source for `Metrics.sources`."""
    stages = GaugeMetricFamily("autoglm_policy_stage", "1 for the stage that the policy is in", labels=["stage"])
    for stage in STAGES:
        stages.add_metric([stage], int(trust.decider.stage == stage))
    version = GaugeMetricFamily("autoglm_policy_version", "Of the policy; 0 without one", value=trust.decider.version)
    snapshot = trust.decider.snapshot
    ends_s = 0.0 if snapshot is None else snapshot.expires_ms / 1000
    ends = GaugeMetricFamily(
        "autoglm_policy_end_seconds", "When it ends, of the Unix epoch; 0 without one", value=ends_s
    )
    clock = GaugeMetricFamily(
        "autoglm_clock_trusted", "1 while the hub's clock is believed", value=int(trust.clock.is_trusted)
    )
    return stages, version, ends, clock
