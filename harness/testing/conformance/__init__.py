"""What `backends.api` promises, as tests that a backend of anybody can be put to.

    pytest -p harness.testing.conformance.options --pyargs harness.testing.conformance \\
        --harness-backend NAME [--harness-model MODEL] [--harness-option KEY=VALUE ...]

runs them over one backend that is installed, from anywhere and without a copy of the harness's
repository. The backend is reached through a worker process, as a run reaches it, and in the
interpreter that a run would use. What its `Capabilities` say that it cannot do is not demanded of
it: such tests are skipped, and say so.

MODEL is what `harness run --model` takes; a backend that reads no model files needs none. The
prompts are simple, and a model of a hundred million parameters is sure enough of how they go on. It
should compute in float32 (where the backend has an option for it): with fewer bits, what is only
near looks right. Its context has to be of 1,024 tokens, unless `max_model_len` is given.
"""
