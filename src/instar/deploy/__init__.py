"""A trained network in use: loaded with its classes and preprocessing, and what it costs."""

from instar.deploy.cost import Cost, cost_of, multiplications_at, multiplications_of
from instar.deploy.loading import find_fit, load_run_network
from instar.deploy.model import Model, load

__all__ = [
    "Cost",
    "Model",
    "cost_of",
    "find_fit",
    "load",
    "load_run_network",
    "multiplications_at",
    "multiplications_of",
]
