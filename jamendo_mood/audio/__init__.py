"""Any audio file -> blocks of 16 kHz mono float32 -> log-mel patches; spectrograms; altered copies of sound.

`ffmpeg` is the one place that starts ffmpeg, with bounds on what it reads, takes and says. Temporary WAVs live in a
`util.files` folder for a moment only.
"""
