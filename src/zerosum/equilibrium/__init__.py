"""Is the game sound: what the trainer watches while it runs."""
