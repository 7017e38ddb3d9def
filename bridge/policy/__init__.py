"""What should happen, as pure functions: time is an argument, and nothing is read but what is handed in."""
