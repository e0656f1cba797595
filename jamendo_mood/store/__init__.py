"""Embeddings on disk: one ``.npy`` a track is the truth, the packed file and Parquet are copies of it.

The format is fixed: stores that people have must stay readable. A store is only ever changed through
`embedding_store.EmbeddingStore`, by an import from `parquet`, or by a repair (`verification`).
"""
