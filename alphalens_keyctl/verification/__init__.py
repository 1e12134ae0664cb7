"""Whether a raw key opens, and if not why: `KeyVerifier`, what it remembers, and its record of use."""
