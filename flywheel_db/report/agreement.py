"""How far verdicts and labels agree. The positive class is the row that fails.

A row is positive when it is labelled bad, and found positive when the validator fails it. A figure
whose denominator is zero is None: there was nothing to measure it on.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist


@dataclass(frozen=True)
class Interval:
    """A share and the interval it lies in with 95 % confidence; each from 0 to 1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Agreement:
    """The confusion matrix of decided rows: label, then verdict."""

    bad_failed: int = 0
    good_failed: int = 0
    bad_passed: int = 0
    good_passed: int = 0

    @property
    def decided(self) -> int:
        """Rows with a label and a verdict."""
        return self.bad_failed + self.good_failed + self.bad_passed + self.good_passed

    def plus(self, *, is_bad: bool, passed: bool) -> Agreement:
        """The matrix with one more row in it."""
        return Agreement(
            self.bad_failed + (is_bad and not passed),
            self.good_failed + (not is_bad and not passed),
            self.bad_passed + (is_bad and passed),
            self.good_passed + (not is_bad and passed),
        )

    @property
    def accuracy(self) -> float | None:
        """(TP + TN) / n: the share of rows on which verdict and label agree."""
        return _share(self.bad_failed + self.good_passed, self.decided)

    @property
    def precision(self) -> Interval | None:
        """TP / (TP + FP): of the rows the validator fails, the share labelled bad."""
        return wilson_interval(self.bad_failed, self.bad_failed + self.good_failed)

    @property
    def recall(self) -> Interval | None:
        """TP / (TP + FN): of the rows labelled bad, the share the validator fails."""
        return wilson_interval(self.bad_failed, self.bad_failed + self.bad_passed)

    @property
    def f1(self) -> float | None:
        """2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall.

        van Rijsbergen, Information Retrieval (1979), chapter 7: 1 - E with equal weights.
        """
        return _share(2 * self.bad_failed, 2 * self.bad_failed + self.good_failed + self.bad_passed)

    @property
    def kappa(self) -> float | None:
        """(p_o - p_e) / (1 - p_e), agreement beyond chance, from -1 to 1.

        p_o is the accuracy, p_e the agreement that the shares of bad and of failing rows would
        give by chance. Cohen, A Coefficient of Agreement for Nominal Scales (1960). For two
        classes that is 2 (TP TN - FP FN) / ((TP + FP)(FP + TN) + (TP + FN)(FN + TN)), which
        integers give without rounding.
        """
        tp, fp, fn, tn = self.bad_failed, self.good_failed, self.bad_passed, self.good_passed
        return _share(2 * (tp * tn - fp * fn), (tp + fp) * (fp + tn) + (tp + fn) * (fn + tn))


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval | None:
    """The share successes / n with Wilson's score interval; None if n is zero.

    With p = successes / n and z the normal quantile of (1 + confidence) / 2:
    (p + z^2/2n +- z sqrt(p(1 - p)/n + z^2/4n^2)) / (1 + z^2/n). Wilson, Probable Inference, the
    Law of Succession, and Statistical Inference (1927).
    """
    if n == 0:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = successes / n
    scale = 1 + z * z / n
    middle = (p + z * z / (2 * n)) / scale
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    # Rounding must not put the share itself outside of its interval.
    return Interval(p, min(p, max(0.0, middle - half)), max(p, min(1.0, middle + half)))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
