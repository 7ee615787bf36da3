"""Back ends: each makes of a program, after the passes, something that runs."""
