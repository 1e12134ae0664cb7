"""Write the scripts in `completions/` anew: `python -m tests.support.completions`."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from alphalens_keyctl.settings import COMPLETE_VARIABLE, PROGRAM

FOLDER: Final = Path(__file__).parents[2] / "completions"
FILES: Final = {"bash": f"{PROGRAM}.bash", "zsh": f"_{PROGRAM}", "fish": f"{PROGRAM}.fish"}
_REGISTER: Final = f"compdef _alphalens_keyctl_completion {PROGRAM}"
# zsh runs an autoloaded file as the function itself: one that only registers would waste the first TAB.
_AUTOLOADED: Final = f"""if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _alphalens_keyctl_completion "$@"
else
  {_REGISTER}
fi"""


def generate(shell: str) -> str:
    """The script for a shell: what Typer makes, fit to be installed as a file."""
    script = subprocess.run(
        [sys.executable, "-m", "alphalens_keyctl"],
        env=os.environ | {COMPLETE_VARIABLE: f"source_{shell}"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    if shell == "zsh":
        assert _REGISTER in script
        script = script.replace(_REGISTER, _AUTOLOADED)
    return script + "\n"


if __name__ == "__main__":
    for shell, name in FILES.items():
        (FOLDER / name).write_text(generate(shell))
