"""What somebody outside holds of the audit log: heads, proofs, and signatures on heads."""
