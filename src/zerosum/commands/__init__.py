"""The commands of `zerosum`, one file each. Importing them must stay quick: torch is imported when a command runs."""
