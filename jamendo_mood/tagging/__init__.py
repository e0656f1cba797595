"""One song -> its moods: prediction, scores over time, why, the place on the plane of valence and arousal, emotions."""
