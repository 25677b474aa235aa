"""vLLM's offline engine. `backend.py` is what the entry point names."""
