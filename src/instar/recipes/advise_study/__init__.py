"""`instar reproduce advise`: the advice beside every treatment fitted to the end."""
