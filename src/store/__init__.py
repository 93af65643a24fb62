"""One module per collection: its indexes, upserts and queries. Nobody else speaks MongoDB's query language."""
