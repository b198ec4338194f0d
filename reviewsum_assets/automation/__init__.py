"""When things happen by themselves: sensors."""
