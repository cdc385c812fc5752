"""How a report looks: Markdown, and one self-contained page."""
