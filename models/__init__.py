"""What is learnt: the generalist, the specialists and the bundled weights."""
