"""How prompts share their beginnings: the prefix tree, and sessions over one shared KV cache.

For any engine that can evaluate tokens for several sequences at once.
"""
