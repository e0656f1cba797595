"""What every other room needs: errors, files written whole or not at all, strangers' input, tables, signals, lines.

Nothing here knows of sound, embeddings or moods. Standard library, numpy and (for `figures`) matplotlib only.
"""
