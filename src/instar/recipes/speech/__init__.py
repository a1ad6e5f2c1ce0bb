"""`instar speech`: a recogniser from recordings to words."""
