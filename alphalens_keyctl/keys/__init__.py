"""Keys: which are meant, their life, and how one follows another."""
