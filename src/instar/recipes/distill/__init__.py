"""`instar distill` in `recipe.py`, `instar reproduce mnist` in `mnist.py`: students alone and distilled."""
