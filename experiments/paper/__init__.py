"""The paper's tables and claims, made again."""
