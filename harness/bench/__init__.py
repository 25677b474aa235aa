"""What an engine does on tests of fixed length, in llama-bench's terms."""
