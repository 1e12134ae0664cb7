"""Options and arguments that several commands share. Light: each file imports what does a job when it runs."""
