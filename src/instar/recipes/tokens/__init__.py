"""`instar distill --task causal-lm` and `instar reproduce tokens`: a language model into a smaller one."""
