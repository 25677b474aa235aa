"""From images to a dataset of their embeddings."""
