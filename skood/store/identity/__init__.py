"""What makes two networks, and two functions, the same."""
