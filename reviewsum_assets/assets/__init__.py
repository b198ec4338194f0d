"""What exists: one module an asset."""
