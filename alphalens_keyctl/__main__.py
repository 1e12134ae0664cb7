"""`python -m alphalens_keyctl`, the same as the installed script."""

import sys

from alphalens_keyctl.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
