"""What all other rooms need: errors, safe writing of files, untrusted input, text for people, figures, signals.

Nothing here is about sound, embeddings or moods. It needs the standard library, numpy and (`figures`) matplotlib only.
"""
