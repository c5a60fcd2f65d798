"""Series whose truth is known, to see how often an interval holds it; tests and docs share them."""

import numpy as np

from cdpanalytics.metrics.core.trend import trends
from cdpanalytics.metrics.core.uncertainty import success_interval

DRIFT = 100.0
NOISE = 1000.0
STEP_SHARE = 0.2
KINDS = ("white noise", "AR(1) 0.6", "random walk", "rare steps")
SETTINGS = ("independent", "half shared", "all shared")


def truth(kind):
    return STEP_SHARE * NOISE if kind == "rare steps" else DRIFT


def levels(kind, series, days, seed):
    """Sizes of many VMs, one per row, in whole bytes."""
    random = np.random.default_rng(seed)
    if kind == "rare steps":
        grows = random.random((series, days)) < STEP_SHARE
        return np.round(grows * random.exponential(NOISE, (series, days))).cumsum(axis=1)
    noise = random.normal(0, NOISE, (series, days + 50))
    if kind == "AR(1) 0.6":
        for day in range(1, days + 50):
            noise[:, day] += 0.6 * noise[:, day - 1]
    noise = noise[:, 50:]
    if kind == "random walk":
        noise = noise.cumsum(axis=1)
    return np.round(noise + DRIFT * np.arange(days))


def failures(setting, runs, vms, slots, rate, seed):
    """Failed sessions of `runs` months: one session per VM and slot, `rate` of them fail."""
    random = np.random.default_rng(seed)
    shared = {"independent": 0.0, "half shared": 0.5, "all shared": 1.0}[setting] * rate
    outages = random.binomial(slots, shared, runs)
    alone = random.binomial((slots - outages) * vms, (rate - shared) / (1 - shared))
    return outages * vms + alone


def theil_sen_interval(levels):
    """Sen's own interval of the slope, which takes points to be independent."""
    count = levels.shape[1]
    first, second = np.triu_indices(count, 1)
    slopes = np.sort((levels[:, second] - levels[:, first]) / (second - first), axis=1)
    half = 1.96 * np.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(round((slopes.shape[1] - half) / 2), 0)
    high = min(round((slopes.shape[1] + half) / 2), slopes.shape[1] - 1)
    return slopes[:, low], slopes[:, high]


def success_coverage(setting, vms, slots, rate, runs=4000, seed=11):
    """Share of months whose interval holds the true rate: by slots, and by pooled sessions."""
    finished = np.full(runs, vms * slots)
    success = finished - failures(setting, runs, vms, slots, rate, seed)
    shares = []
    for trials in (np.full(runs, slots), finished):
        low, high = success_interval(success, finished, trials)
        shares.append(float(np.mean((low <= 1 - rate) & (1 - rate <= high))))
    return tuple(shares)


def trend_coverage(kind, days, series=1000, seed=12):
    """Share of the given intervals that hold the true slope, and the size that came."""
    sizes = levels(kind, series, days + 30, seed)
    past = sizes[:, :days]
    fit = trends(np.tile(np.arange(float(days)), (series, 1)), past)
    given = ~np.isnan(fit.low)
    low, high = theil_sen_interval(past)

    def share(lower, upper, value):
        return float(np.mean(((lower <= value) & (value <= upper))[given]))

    coverage = {"slope": share(fit.low, fit.high, truth(kind))}
    coverage["slope, Theil-Sen's own"] = share(low, high, truth(kind))
    for ahead, name in ((1, "1 day ahead"), (7, "7 days ahead"), (30, "30 days ahead")):
        below, above = fit.projection_limits(np.array(days - 1.0), np.array(float(ahead)))
        projected = past[:, -1] + fit.slope * ahead
        coverage[name] = share(projected + below, projected + above, sizes[:, days - 1 + ahead])
    coverage["given"] = float(given.mean())
    return coverage
