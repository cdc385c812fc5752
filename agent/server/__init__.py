"""The HTTP server: OpenAI's chat protocol for chat pages, and ``/v1/diagnose`` for programs."""
