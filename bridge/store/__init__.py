"""The rows: everything that must survive a `kill -9`."""
