"""`instar reproduce texts`: networks of words and a linear model of words, distilled into one small network."""
