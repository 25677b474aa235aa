"""How one run goes: write the prompts, prompt the engines, store the replies, summarise.

`run.py` shows it whole.
"""
