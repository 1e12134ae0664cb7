"""The audit log, the usage log, and what is read out of them."""
