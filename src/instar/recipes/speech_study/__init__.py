"""`instar reproduce speech`: section 4 of the second paper, and its 3 %."""
