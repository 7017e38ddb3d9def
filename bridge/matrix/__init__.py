"""The Matrix edge: one bot, one cross-signed device, encrypted rooms, and what people say in them."""
