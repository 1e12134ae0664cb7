"""`audit` and its subcommands, one file each."""
