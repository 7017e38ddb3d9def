"""Nightbell rings the clinician who is on call, in an end-to-end encrypted Matrix room."""

__version__ = "0.1.0"
