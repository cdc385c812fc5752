"""What the generalist can call: specialists and case retrieval."""
