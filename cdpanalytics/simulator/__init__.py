"""A local, seeded, simulated Enterprise Manager: a fleet with a known truth, and the server that serves it."""

from .faults import Fault
from .fleet import Fleet, PlantedGap
from .server import Simulator, serve

__all__ = ["Fault", "Fleet", "PlantedGap", "Simulator", "serve"]
