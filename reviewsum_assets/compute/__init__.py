"""Where summarization runs: a local process now, other machines behind the same interface."""
