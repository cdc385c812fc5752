"""What a generalist can do beside deciding: choose tools, decide in a consultation, and answer questions."""
