"""Audio files -> a store: decoding beside the network, resume, shards, downloads, object stores, Ray.

`streaming` embeds files in flat memory and puts them into a store; each track is safe on disk as soon as it is done.
"""
