"""Replaying cases and measuring what the collaboration is worth."""
