"""When things happen by themselves: jobs, sensors, a schedule, alerts."""
