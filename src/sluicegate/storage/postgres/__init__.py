"""The store of several machines: one PostgreSQL database for every process.

store        the contract, one line for each method               operations, answers   what goes to the server and back
lane         one connection; group commit                         readers               connections for reads
connection   how to connect, and the server's errors as ours      migrate               the schema's versions
functions/   what writes: PL/pgSQL, one call for a whole batch     sql/                  every query that only reads
signals      wake-ups between processes                         statements            loading of all these files
"""
