"""The HTTP API: every request is a caller's, within the rights of the caller's key (promise 13)."""
