"""How much of what matters survives compression: data sets, metrics, baselines and runners.

`datasets` reads items that can score what is left of them, `metrics` holds the measures,
`compressors` the pipeline under test and three baselines, `runner` puts them side by side, `tables`
and `plots` show the rows, `sections` puts a table into a page. Nothing here is needed to compress.
"""
