"""The schema's history, one file a step."""

HEAD = "0001"  # the last step; a database that has it is up to date
