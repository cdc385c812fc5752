"""What a generalist can do beside deciding: choose tools, answer follow-ups and questions."""
