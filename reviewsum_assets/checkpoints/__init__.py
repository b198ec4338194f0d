"""Plan, checkpoint files, manifests and their merge; no Dagster."""
