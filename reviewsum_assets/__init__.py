"""From raw product reviews to one trustworthy summary per product."""

__version__ = "0.1.0"
