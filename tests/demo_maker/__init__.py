"""Code that made the files of ``reviewsum_assets/demo``: the sample dump and the small Pegasus."""
