"""The keys as a caller may administer them, within the caller's rights: over the database, or over HTTP."""
