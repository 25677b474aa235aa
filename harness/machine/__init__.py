"""Where a run was made: its environment, and the memory that processes and GPUs use."""
