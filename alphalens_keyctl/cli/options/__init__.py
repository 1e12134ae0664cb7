"""Options and arguments that several commands share. Loaded at every start, and light as the options files are."""
