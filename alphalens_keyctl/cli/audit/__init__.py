"""`audit` and its subcommands, each in two files as all commands are."""
