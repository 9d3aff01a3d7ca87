"""What the learner believes of an arm when a request comes: how good its answer will be, and how sure that is."""

from typing import NamedTuple


class Belief(NamedTuple):
    """Of one arm, for one request."""

    quality: float
    deviation: float
    evidence: float
    """Outcomes like this request that would say as much."""
    near: float
    """Outcomes in the narrow circle."""
    alike: float
    """The quality by outcomes of like requests alone."""
    overall: float
    """The quality by all outcomes of the arm, whatever the request."""
    outcomes: float
    """Judged ones of the arm, of any kind of request."""
    is_settled: bool
    """The arm is not new: it has enough of them."""
