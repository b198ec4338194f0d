"""`reviewsum bench`: engines and stages beside baselines that do the same work."""
