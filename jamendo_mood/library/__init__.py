"""Many songs: scores kept beside a store, similar tracks, playlists, and the emotions that a user asked for."""
