"""The lake (``Lake``, ``Overlay``), every key (``places``), checked records and Parquet tables.

In: a lake's address. Out: objects that are whole, or an error that names them.
"""
