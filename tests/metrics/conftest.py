"""Hypothesis profiles: few examples by default, more for `ci`, many for `nightly`."""

import os

from hypothesis import HealthCheck, Phase, settings

_COMMON = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    "database": None,
    "phases": [Phase.explicit, Phase.generate, Phase.shrink],
}

settings.register_profile("quick", max_examples=50, **_COMMON)
settings.register_profile("mutants", max_examples=20, derandomize=True, **_COMMON)
settings.register_profile("ci", max_examples=200, **_COMMON)
settings.register_profile("nightly", max_examples=10_000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
