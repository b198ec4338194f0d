"""How fast the engines are on this machine, and how fast they could be."""
