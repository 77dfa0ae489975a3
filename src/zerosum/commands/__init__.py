"""The commands of `zerosum`, one file each. Importing them is quick: torch comes when a command runs."""
