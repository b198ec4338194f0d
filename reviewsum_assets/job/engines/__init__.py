"""Engines turn batches of token ids into batches of summary token ids."""
