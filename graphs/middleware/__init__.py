"""What surrounds the generalist in a consultation."""
