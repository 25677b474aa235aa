"""What a model is held against: classifiers without a language model, on the same queries."""
