"""Rows with named columns, whatever file they come from, split into training, validation and test rows."""
