"""From dump files to grouped reviews, one row per product; knows no Dagster.

In: dumps on the lake or named by the settings, in any format that ``formats`` detects.
Out: Parquet tables of products, a record that makes them current, a file of unreadable rows.
"""
