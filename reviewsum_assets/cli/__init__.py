"""The commands of ``reviewsum``.

In: options, ``REVIEWSUM_*`` variables, the lake. Out: text or JSON, and an exit code.
"""
