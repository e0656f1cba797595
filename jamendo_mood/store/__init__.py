"""Embeddings on disk: one ``.npy`` a track is the truth, the packed file and Parquet are copies of it.

The format (`file_format`, `entries`) is fixed: stores that people have must stay readable. A store is only ever changed
through `embedding_store`, `parquet` and `repair`.
"""
