"""Plumbing that every layer uses: background loop, batching, JSONL, progress, garbage collection."""
