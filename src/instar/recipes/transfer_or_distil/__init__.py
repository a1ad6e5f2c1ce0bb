"""`instar reproduce transfer-or-distil`: one student on few examples."""
