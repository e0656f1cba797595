"""Many songs: scores kept beside a store, similar tracks, playlists, and which emotions were asked for."""
