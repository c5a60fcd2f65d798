"""A local, seeded, simulated Enterprise Manager: a fleet with a known truth, and the server that serves it."""

from .estate import PlantedGap, PlantedIncident
from .faults import Fault
from .fleet import Fleet
from .server import Simulator, serve

__all__ = ["Fault", "Fleet", "PlantedGap", "PlantedIncident", "Simulator", "serve"]
