"""`instar advise`: which layers of a pretrained network to keep for a small data set."""
