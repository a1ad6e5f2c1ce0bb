"""`instar distill`: a student alone and with soft targets, from one teacher, an ensemble or a store."""
