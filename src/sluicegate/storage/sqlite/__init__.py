"""The embedded tier's store: one SQLite file for every process of one machine.

store             the contract, as one-line calls of the operations below
database_thread   one thread and connection; group commit     session   the open transaction
turnstile         turns among processes                       migrate   the schema's versions
submission, leasing, caretaking, registers, reading            the operations, by who asks
transitions       the one way to change a job's state         sql/      every query, by name
signals           wake-ups between processes
"""
