"""From dump files to grouped reviews, one row a product; no Dagster."""
