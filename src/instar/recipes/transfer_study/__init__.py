"""`instar reproduce transfer`: the first paper's study."""
