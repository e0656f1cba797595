"""What all other rooms need: errors, safe writing of files, untrusted input, text and pictures for people, signals.

Nothing here is about sound, embeddings or moods. It needs the standard library, numpy and, for pictures, matplotlib.
"""
