"""What runs where the GPU is: entry point, chunking, batching, engines; no Dagster."""
