"""What the bridge costs and how quick it is, beside the bare homeserver, in one run."""
