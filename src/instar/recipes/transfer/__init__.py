"""`instar transfer`: every treatment at every cut, over splits of the classes."""
