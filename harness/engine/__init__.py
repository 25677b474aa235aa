"""Who answers: models, interpreters, installed engines, and sessions in their workers.

Nothing else in the harness starts a worker, or depends on which engine it is.
"""
