"""A complete demonstration without downloads: sample reviews, a small Pegasus, their makers."""
