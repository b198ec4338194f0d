"""How good summaries are: beside human ones, beside baselines, and by themselves."""
