"""Speech: corpora, features, hidden Markov models, alignment and decoding around an acoustic network."""
