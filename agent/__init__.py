"""How people and programs reach gsco: Python, command line."""
