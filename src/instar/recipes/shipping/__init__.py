"""A user's own job, after training: predict, export with proof, serve, and the lines that say how.

What exports are made of (formats, parity, cards) lies in `instar.deploy`, which knows no run's configuration.
"""
