"""Any audio file -> blocks of 16 kHz mono float32 -> log-mel patches and spectrograms.

`ffmpeg` is the one place that starts ffmpeg, with limits on what it reads and writes. Temporary WAVs live in a
`Scratch` folder for a moment only.
"""
