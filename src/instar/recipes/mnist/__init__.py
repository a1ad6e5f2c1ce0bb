"""`instar reproduce mnist`: section 3 of the second paper."""
