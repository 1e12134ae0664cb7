"""Results → table, panel, JSON, JSON Lines, CSV. Rich lives here alone."""
