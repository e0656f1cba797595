"""Audio files -> a store, streaming: decoding beside the network, resume, shards, downloads, object stores, Ray.

`streaming` turns files into embeddings in flat memory, `extractor` puts them into a store. Each track is
durable when it is done.
"""
