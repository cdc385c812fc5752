"""Building a generalist: data mixture, architecture and training loop."""
