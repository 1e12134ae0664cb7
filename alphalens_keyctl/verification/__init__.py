"""Whether a raw key opens, and if not why."""
