"""What a network costs in use, and later how to ship it."""

from instar.deploy.cost import Cost, cost_of, multiplications_at

__all__ = ["Cost", "cost_of", "multiplications_at"]
