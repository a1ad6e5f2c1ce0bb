"""`instar reproduce tables`: estimators of other libraries into a small network, on rows of a table."""
