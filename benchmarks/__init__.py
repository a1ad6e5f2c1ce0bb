"""Speed, as ratios of what was measured in turns in one run. `python -m benchmarks` runs all and shows a table."""
