"""llama.cpp, through llama-cpp-python. `backend.py` is what the entry point names."""
