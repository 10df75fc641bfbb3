"""The fair queue on a virtual clock: the same arrivals under several rules, to see what each does to waits and swaps.

`scenario` reads what is simulated from TOML, `workload` draws its arrivals, `rules` are the orders compared with ours,
`simulator` plays one day of GPUs, and `summary` and `plot` say what came out.
"""
