"""What an engine does on tests of fixed length, in llama-bench's terms.

It needs engines alone: no data, no prompts of a run, and nothing of it is stored.
"""
