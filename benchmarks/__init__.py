"""Speed, as ratios of what was measured in turns in one run. `python -m benchmarks` shows the table."""
