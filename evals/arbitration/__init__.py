"""Arbitration: whose side a generalist takes when evidence, image and itself contradict each other."""
