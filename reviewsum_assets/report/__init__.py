"""The report: the merged table as one HTML file for people, ``summarized_dataset/report.html``.

In: merged table, and if there are any, product facts and evidence of its sentences.
Out: a page that needs no network; ``writer.write_report`` makes it, ``page.*`` are its parts.
"""
