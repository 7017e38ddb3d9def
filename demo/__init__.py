"""The whole way of a page in one terminal: what is sent, what the homeserver keeps, what the clinician reads."""
