"""The cost of a network in use."""

from instar.deploy.cost import Cost, cost_of, multiplications_at

__all__ = ["Cost", "cost_of", "multiplications_at"]
