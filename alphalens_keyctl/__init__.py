"""Administer AlphaLens API keys: create, list, revoke, rotate, audit, in Python by `KeyManager`; and check them:
`KeyVerifier`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alphalens_keyctl.manager.key_manager import KeyManager
    from alphalens_keyctl.verification.verifier import KeyVerifier

__version__ = "0.1.0"
__all__ = ["KeyManager", "KeyVerifier", "__version__"]


def __getattr__(name: str) -> Any:
    # The command must not pay for what a service needs.
    if name == "KeyVerifier":
        from alphalens_keyctl.verification.verifier import KeyVerifier

        return KeyVerifier
    if name == "KeyManager":
        from alphalens_keyctl.manager.key_manager import KeyManager

        return KeyManager
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
