"""The command line: one command, two files; and the entry that turns errors into exit codes.

`COMMAND.py` holds a command's options. All of these files are loaded at every start, for `--help` and for TAB, so
they import Typer and little else. They parse the options into plain values and call one function of the job file,
which they import only when the command runs.

`COMMAND_OBJECT.py`, beside it, is the job: it opens the database, calls one domain function and hands the value to
one renderer. It imports on top what every run of it needs. What only some runs need, and what is slow to load, it
imports where it is used: the drawings for people, which load Rich, and the destinations of a raw key.
"""
