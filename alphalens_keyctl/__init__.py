"""Administer AlphaLens API keys: create, list, revoke, rotate, audit."""

__version__ = "0.1.0"
