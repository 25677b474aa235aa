"""What a reply is worth: parsing, votes, accuracy, and what a reader has to know of it."""
