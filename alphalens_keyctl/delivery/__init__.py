"""The raw key's destinations: standard output, keyring, files, commands; and how several are given it as one."""
