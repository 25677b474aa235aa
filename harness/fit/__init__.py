"""What fits: into a context, counted by a model's own tokenizer, and into memory."""
