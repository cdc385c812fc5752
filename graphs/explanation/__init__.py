"""What is said about a case where the generalist does not converse: written from the record."""
