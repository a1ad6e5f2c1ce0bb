"""Rows with named columns, whatever file they come from, split into training, validation and test rows."""

from instar.data.records.places import place_of
from instar.data.records.reading import Records, read_records
from instar.data.records.roles import Roles

__all__ = ["Records", "Roles", "place_of", "read_records"]
