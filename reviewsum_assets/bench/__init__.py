"""How fast everything is, beside what it replaces: `reviewsum bench`."""
