"""A local, seeded, simulated Enterprise Manager: a fleet with a known truth, and the server that serves it."""

from .fleet import Fleet, PlantedGap
from .server import Simulator, serve

__all__ = ["Fleet", "PlantedGap", "Simulator", "serve"]
