"""Who answers: models, interpreters, installed engines, and sessions in their workers."""
