"""The destinations of a raw key: stdout, keyring, files, commands; and the handover to several as one."""
