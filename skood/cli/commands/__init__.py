"""One command a module: its texts, its arguments, and what it does."""
