"""The fast lane beside its peers: one gateway after the other between the same load generator and the same upstream.

    load generator (C)  ──►  a contender, pinned to a core of its own  ──►  upstream (C)
    └──────────────────────── both on the other core ─────────────────────────────┘

    contender      what is measured: how it is installed and launched   contenders/  one file for each
    programs       the two C programs, compiled once                    peers        installing what is not ours
    cores          pinning, and who used the processor                  running      a contender that serves
    load, upstream what the two programs are told and what they tell    scenarios    the cases, by the model's name
    throughput, memory, start, hardship   the parts           targets, report, plot   what is written

Run ``python -m bench.lane --help``.
"""
