"""Whether a raw key opens, and why not: `KeyVerifier`, the records that it remembers, and the recording of uses."""
