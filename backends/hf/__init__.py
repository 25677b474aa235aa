"""Hugging Face transformers. `backend.py` is what the entry point names."""
