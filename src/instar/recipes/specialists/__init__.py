"""`instar specialists`: networks for confusable classes, beside a generalist and its controls."""
