"""Recipes: one file is one experiment that a user can run."""
