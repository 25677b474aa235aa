"""How an answer looks: tables, sentences, charts, Markdown and CSV. It computes no figure."""
