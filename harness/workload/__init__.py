"""What is prompted: data, reducers, encodings, templates, voters, and how they are packed."""
