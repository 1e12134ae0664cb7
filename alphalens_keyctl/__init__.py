"""Administer AlphaLens API keys: create, list, revoke, rotate, audit; and check them: `KeyVerifier`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alphalens_keyctl.verification.verifier import KeyVerifier

__version__ = "0.1.0"
__all__ = ["KeyVerifier", "__version__"]


def __getattr__(name: str) -> Any:
    # The command must not pay for what a service needs.
    if name == "KeyVerifier":
        from alphalens_keyctl.verification.verifier import KeyVerifier

        return KeyVerifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
